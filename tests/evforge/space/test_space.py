import json
import random
from dataclasses import replace

import optuna
import pytest

from detector.config import Config
from evforge.space.space import load_space, space_text

optuna.logging.set_verbosity(optuna.logging.ERROR)

FG, BG = "anchors.fg_iou_threshold", "anchors.bg_iou_threshold"
SPACE = """
tune: {num_samples: 6}
space:
  anchors.anchor_list: {choice: [PSEE_ANCHORS, [[1, 1], [2.5, 1]]]}
  anchors.bg_iou_threshold: {uniform: [0.2, 0.6]}
  anchors.fg_iou_threshold: {uniform: [0.3, 0.6]}
  model.feature_base: {randint: [8, 10]}
  optim.lr: {loguniform: [1e-4, 1e-2]}
  constraints: [anchors.bg_iou_threshold <= anchors.fg_iou_threshold]
"""


def write(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


def load(tmp_path, text=SPACE):
    return load_space(write(tmp_path, text))


def test_settings_and_domains(tmp_path):
    space = load(tmp_path)
    assert space.settings == {"tune.num_samples": 6}
    assert [(key, domain.kind) for key, domain in space.domains.items()] == [
        ("anchors.anchor_list", "choice"),
        (BG, "uniform"),
        (FG, "uniform"),
        ("model.feature_base", "randint"),
        ("optim.lr", "loguniform"),
    ]
    assert space.constraints == ((BG, FG),)


def test_every_random_sample_is_a_valid_configuration_with_its_values(tmp_path):
    space, config = load(tmp_path), Config()
    space.check(config)
    samples = space.random_samples(config, 30, seed=0)
    for sample in samples:
        overrides = space.overrides_of(sample)
        flat = config.with_overrides(overrides).to_flat()
        assert 0.2 <= flat[BG] <= flat[FG] <= 0.6
        assert flat["model.feature_base"] in (8, 9, 10)
        assert 1e-4 <= flat["optim.lr"] <= 1e-2
        assert flat["anchors.anchor_list"] in ("PSEE_ANCHORS", [(1.0, 1.0), (2.5, 1.0)])
    assert {sample["model.feature_base"] for sample in samples} == {8, 9, 10}
    assert {sample["anchors.anchor_list"] for sample in samples} == {"PSEE_ANCHORS", "[[1, 1], [2.5, 1]]"}


def test_random_samples_depend_on_seed_and_index_only(tmp_path):
    space = load(tmp_path)
    assert space.random_samples(Config(), 5, seed=1)[:3] == space.random_samples(Config(), 3, seed=1)
    assert space.random_samples(Config(), 3, seed=1) != space.random_samples(Config(), 3, seed=2)


def test_samples_hold_primitives_only(tmp_path):
    for sample in load(tmp_path).random_samples(Config(), 10, seed=0):
        assert all(isinstance(value, str | int | float) for value in sample.values())
        json.dumps(sample)


def test_optuna_draws_valid_samples(tmp_path):
    space, config = load(tmp_path), Config()
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5))
    for _ in range(15):
        trial = study.ask()
        sample = space.suggest(config, trial)
        assert sample[BG] <= sample[FG]
        config.with_overrides(space.overrides_of(sample))
        study.tell(trial, sample[BG])


def test_optuna_draws_constrained_choices(tmp_path):
    text = f"space:\n  {BG}: {{choice: [0.2, 0.4]}}\n  {FG}: {{choice: [0.3, 0.5]}}\n  constraints: [{BG} <= {FG}]"
    space, study = load(tmp_path, text), optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    drawn = set()
    for _ in range(20):
        trial = study.ask()
        sample = space.suggest(Config(), trial)
        drawn.add((sample[BG], sample[FG]))
        study.tell(trial, sample[BG])
    assert drawn == {(0.2, 0.3), (0.2, 0.5), (0.4, 0.5)}


def test_grid_takes_every_combination_that_meets_the_constraints(tmp_path):
    text = f"space:\n  {BG}: {{grid: [0.2, 0.4]}}\n  {FG}: {{choice: [0.3, 0.5]}}\n  constraints: [{BG} <= {FG}]"
    samples = load(tmp_path, text).grid_samples(Config())
    assert samples == [{BG: 0.2, FG: 0.3}, {BG: 0.2, FG: 0.5}, {BG: 0.4, FG: 0.5}]


def test_grid_refuses_a_range(tmp_path):
    with pytest.raises(ValueError, match=r"anchors.bg_iou_threshold: got uniform, allowed .*: choice or grid"):
        load(tmp_path).grid_samples(Config())


def test_grid_domain_needs_the_grid_searcher(tmp_path):
    space = load(tmp_path, "space: {model.feature_base: {grid: [8, 16]}}")
    with pytest.raises(ValueError, match="got grid with tune.searcher optuna"):
        space.check(Config())
    space.check(Config.load(None, {"tune.searcher": "grid"}))


def test_constraint_against_a_fixed_value(tmp_path):
    space = load(tmp_path, f"space:\n  {FG}: {{uniform: [0.2, 0.6]}}\n  constraints: [{BG} <= {FG}]")
    config = Config.load(None, {BG: 0.35})
    space.check(config)
    assert all(0.35 <= sample[FG] <= 0.6 for sample in space.random_samples(config, 20, seed=0))


def test_chain_of_constraints_leaves_room_below(tmp_path):
    text = """
space:
  data.min_box_side: {choice: [3, 7, 9]}
  data.min_box_diag: {uniform: [0, 8]}
  model.feature_base: {randint: [1, 8]}
  constraints: [data.min_box_side <= data.min_box_diag, data.min_box_diag <= model.feature_base]
"""
    samples = load(tmp_path, text).random_samples(Config(), 50, seed=0)
    for sample in samples:
        assert sample["data.min_box_side"] <= sample["data.min_box_diag"] <= sample["model.feature_base"]
    assert {sample["data.min_box_side"] for sample in samples} == {3, 7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tune: {num_samples: 2}", "a search space contains `space:`"),
        ("space: [1]", "a search space contains `space:`"),
        ("space: {constraints: []}", "space: got no keys"),
        ("space: {", "not YAML"),
        ("space: {model.feature_bas: {choice: [8]}}", "unknown key model.feature_bas, did you mean model.feature_base"),
        ("space: {tune.num_samples: {choice: [8]}}", "space.tune.num_samples: cannot be searched"),
        ("space: {model.feature_base: 8}", "space.model.feature_base: got 8, allowed: {domain: values}"),
        ("space: {model.feature_base: {chioce: [8]}}", "got domain 'chioce', allowed: choice, grid, uniform"),
        ("space: {model.feature_base: {choice: []}}", "choice: got .., allowed: at least one value"),
        ("space: {model.feature_base: {choice: [8, 8]}}", "allowed: distinct values"),
        ("space: {model.feature_base: {choice: 8}}", "choice: got 8, allowed: a list"),
        ("space: {optim.lr: {uniform: [2, 1]}}", r"uniform: got \[2, 1\], allowed: \[low, high\] with low < high"),
        ("space: {optim.lr: {loguniform: [0, 1]}}", "and low > 0"),
        ("space: {model.feature_base: {randint: [1.5, 4]}}", "allowed: whole numbers"),
        ("space: {optim.lr: {uniform: [a, 1]}}", "uniform: got"),
        ("tune: {nun_samples: 2}\nspace: {optim.lr: {choice: [1]}}", "tune.nun_samples, did you mean tune.num"),
        ("tune: 3\nspace: {optim.lr: {choice: [1]}}", "tune: got 3, allowed: space, or a group"),
        (f"space:\n  {FG}: {{uniform: [0, 1]}}\n  constraints: ['{FG} > 1']", "constraints: got '.*> 1', allowed"),
        (f"space:\n  {FG}: {{uniform: [0, 1]}}\n  constraints: [{FG} <= model.fo]", "unknown key model.fo"),
        (
            f"space:\n  {FG}: {{uniform: [0, 1]}}\n  constraints: [{FG} <= data.preprocess]",
            "preprocess is not a number",
        ),
        (f"space:\n  optim.lr: {{uniform: [0, 1]}}\n  constraints: [{BG} <= {FG}]", "neither key is searched"),
    ],
)
def test_errors_of_the_file_name_what_is_allowed(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, text)
    assert str(tmp_path / "space.yaml") in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {model.feature_base: {choice: [8, wide]}}", "feature_base.*wide"),
        ("space: {model.feature_base: {uniform: [8, 16]}}", "feature_base"),
        ("space: {model.first_stride: {choice: [8, 0]}}", "model.first_stride: got 0, allowed: a number above 0"),
        (f"space: {{{FG}: {{uniform: [0.1, 0.6]}}}}", "bg_iou_threshold: got 0.3, allowed: at most"),
        (f"space:\n  {BG}: {{uniform: [0.6, 0.8]}}\n  constraints: [{BG} <= {FG}]", "cannot be met.*at least 0.6"),
        (f"space:\n  {FG}: {{uniform: [0.1, 0.2]}}\n  constraints: [{BG} <= {FG}]", "need a value of at least 0.3"),
        (
            f"space:\n  {FG}: {{uniform: [0, 1]}}\n  {BG}: {{uniform: [0, 1]}}\n"
            f"  constraints: [{BG} <= {FG}, {FG} <= {BG}]",
            "constraints form a cycle",
        ),
    ],
)
def test_values_are_checked_before_anything_starts(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, text).check(Config())
    assert str(tmp_path / "space.yaml") in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"space.yaml: no such search space"):
        load_space(tmp_path / "space.yaml")


def test_anchor_lists_by_number_and_by_fit(tmp_path):
    text = """
space:
  anchors.anchor_list:
    choice: [PSEE_ANCHORS, {ratios: 3, scales: 2}, {ratios: 2, scales: 1}, {ratios: [1, 2.5], scales: [0.5]}, {fit: 6}]
"""
    assert load(tmp_path, text).domains["anchors.anchor_list"].options == (
        "PSEE_ANCHORS",
        "[[0.5, 1.0], [0.5, 1.414], [1.0, 1.0], [1.0, 1.414], [2.0, 1.0], [2.0, 1.414]]",
        "[[0.7071, 1.0], [1.414, 1.0]]",
        "[[1.0, 0.5], [2.5, 0.5]]",
        '{"fit": 6}',
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {anchors.anchor_list: {choice: [{fit: 0}]}}", "got {'fit': 0}, allowed: a name, "),
        ("space: {anchors.anchor_list: {choice: [{fit: 6, scales: 2}]}}", "allowed: a name, "),
        ("space: {anchors.anchor_list: {choice: [{ratios: 3, scales: [0]}]}}", "allowed: a name, "),
        ("space: {anchors.anchor_list: {choice: [{ratios: true, scales: 1}]}}", "allowed: a name, "),
        ("space: {anchors.anchor_list: {fit: 6}}", "got domain 'fit', allowed: choice"),
        ("space: {model.feature_base: {choice: [{fit: 6}]}}", "got {'fit': 6}, allowed: names, numbers"),
        (
            "space: {anchors.anchor_list: {choice: [{fit: 6}]}, anchors.base_size: {uniform: [8, 32]}}",
            "space.anchors.base_size: cannot be searched with fitted anchors",
        ),
    ],
)
def test_errors_of_anchor_lists(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, text)
    assert str(tmp_path / "space.yaml") in str(error.value)


def test_a_space_is_written_with_the_lists_that_are_left(tmp_path):
    text = "# why\nspace: {anchors.anchor_list: {choice: [PSEE_ANCHORS, {fit: 1}]}, optim.lr: {uniform: [1e-3, 1]}}\n"
    space, target = load(tmp_path, text), tmp_path / "written.yaml"
    assert space_text(space.path, space) == text
    lists = replace(space.domains["anchors.anchor_list"], options=("[[1.0, 0.7]]",))
    resolved = replace(space, domains={**space.domains, "anchors.anchor_list": lists})
    target.write_text(space_text(space.path, resolved))
    assert load_space(target).domains == resolved.domains


def test_a_sample_near_another_one_is_near_or_random_for_each_key(tmp_path):
    space, config = load(tmp_path, "space: {optim.lr: {loguniform: [1e-4, 1e-2]}}"), Config()

    def factors(redrawn):
        generator = random.Random(0)
        drawn = [space.draw_near(config, {"optim.lr": 1e-3}, generator, redrawn)["optim.lr"] for _ in range(40)]
        return [round(rate / 1e-3, 9) for rate in drawn]

    assert set(factors(0.0)) == {0.8, 1.2}
    assert not {0.8, 1.2} & set(factors(1.0))
    assert 2 <= sum(factor not in (0.8, 1.2) for factor in factors(0.25)) <= 18
