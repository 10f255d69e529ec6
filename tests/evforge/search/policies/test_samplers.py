import pytest
from optuna.samplers import TPESampler

from evforge.search.policies.samplers import UnseenSearch


def suggest(trial):
    return {"a": trial.suggest_categorical("a", [1, 2, 3]), "b": trial.suggest_categorical("b", ["x", "y"])}


def draw(search, trial_id, value=None):
    sample = search.suggest(trial_id)
    if value is not None:
        search.on_trial_complete(trial_id, {"m": value(sample), "training_iteration": 1})
    return sample


def test_a_space_of_choices_is_drawn_once_each_and_then_ends():
    search = UnseenSearch(TPESampler(seed=0), suggest, "m", "max", seed=0)
    samples = [draw(search, str(number), lambda sample: sample["a"]) for number in range(6)]
    assert len({(sample["a"], sample["b"]) for sample in samples}) == 6
    assert draw(search, "6") == UnseenSearch.FINISHED


def test_draws_follow_from_the_seed_and_survive_a_restart(tmp_path):
    first, second = (UnseenSearch(TPESampler(seed=3), suggest, "m", "max", seed=3) for _ in range(2))
    for number in range(3):
        assert draw(first, str(number), lambda s: s["a"]) == draw(second, str(number), lambda s: s["a"])
    first.save(str(tmp_path / "state"))
    restored = UnseenSearch(TPESampler(seed=3), suggest, "m", "max", seed=3)
    restored.restore(str(tmp_path / "state"))
    assert [draw(restored, str(n)) for n in (3, 4)] == [draw(second, str(n)) for n in (3, 4)]


def test_a_range_never_ends():
    search = UnseenSearch(TPESampler(seed=0), lambda trial: {"a": trial.suggest_float("a", 0, 1)}, "m", "min", seed=0)
    values = [draw(search, str(number), lambda sample: abs(sample["a"] - 0.3))["a"] for number in range(40)]
    assert len(set(values)) == 40
    assert min(abs(value - 0.3) for value in values[10:]) == pytest.approx(0, abs=0.02)  # TPE has come near
