from pathlib import Path
from types import SimpleNamespace

import pytest

from evforge import quickstart as chain
from evforge.cli.settings import Settings
from evforge.cli.verbs import training
from evforge.search import dry_run
from evforge.search import tune as search
from evforge.training import run_folder
from evforge.training import train as training_module

SETTINGS = Settings(None, {"model.feature_base": "24"})
RESULT = SimpleNamespace(
    path=Path("runs/my run"),
    metrics={"val_mean_ap": 0.2506, "val_mean_ap50": 0.5},
    best_checkpoint=Path("best.ckpt"),
    best_config=Path("runs/my run/best.yaml"),
)


@pytest.fixture
def calls(monkeypatch):
    """What the functions behind the verbs were called with."""
    found = []

    def replace(owner, name, result):
        monkeypatch.setattr(owner, name, lambda *arguments: found.append((name, *arguments)) or result)

    replace(chain, "quickstart", Path("my runs/quickstart"))
    replace(training_module, "train", RESULT)
    replace(search, "tune", RESULT)
    replace(search, "resume", RESULT)
    replace(search, "prepare", ("prepared", 3))
    replace(dry_run, "describe_search", "the description")
    return found


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("tune: {num_samples: 6}\nmodel: {feature_base: 4, nlayers: 1}\nspace: {optim.lr: {choice: [0.1]}}")
    return str(path)


def test_train_prints_the_metrics_and_the_next_command(calls, capsys):
    training.train(SETTINGS)
    ((_, config, resume),) = calls
    assert (config.model.feature_base, resume) == (24, None)
    assert capsys.readouterr().out.splitlines() == [
        training.START,
        "val mAP 0.251  mAP50 0.500",
        "best checkpoint: best.ckpt",
        "next: evforge evaluate 'runs/my run'",
    ]


def test_a_resumed_training_keeps_its_settings_where_no_flag_replaces_them(calls, monkeypatch):
    def load(folder):
        assert folder == "runs/a"
        return Settings(None, {"model.feature_base": "8", "model.nlayers": "2"}).resolve()

    monkeypatch.setattr(run_folder, "load_config", load)
    training.train(SETTINGS, resume="runs/a")
    ((_, config, resume),) = calls
    assert (config.model.feature_base, config.model.nlayers, resume) == (24, 2, "runs/a")


def test_tune_prints_the_best_settings_and_one_next_command(calls, space, capsys):
    training.tune(SETTINGS, space)
    ((name, config, path, overrides),) = calls
    assert (name, config.model.feature_base, path, overrides) == ("tune", 24, space, SETTINGS.overrides)
    assert capsys.readouterr().out.splitlines() == [
        training.START,
        "best settings: runs/my run/best.yaml",
        "best checkpoint: best.ckpt",
        "next: evforge evaluate 'runs/my run'",
    ]


def test_a_dry_run_describes_the_search_and_starts_nothing(calls, space, capsys):
    training.tune(SETTINGS, space, dry_run=True)
    assert [call[0] for call in calls] == ["prepare", "describe_search"]
    assert calls[1][1:] == ("prepared", 3)
    assert capsys.readouterr().out.splitlines() == [
        "the description",
        f"next: evforge tune {space} --model.feature_base=24",
    ]


def test_print_config_prints_the_settings_of_the_space_and_the_flags(calls, space, capsys):
    with pytest.raises(SystemExit):
        training.tune(Settings(None, {"model.feature_base": "24"}, print_only=True), space)
    text = capsys.readouterr().out
    assert "num_samples: 6\n" in text and "feature_base: 24\n" in text and "nlayers: 1\n" in text and calls == []


def test_a_resumed_search_has_its_own_settings(calls):
    training.tune(Settings(), resume="runs/study")
    assert calls == [("resume", "runs/study")]


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        (SETTINGS, {}, "^space: got nothing, allowed: a YAML file of a search space, or --resume FOLDER$"),
        (
            SETTINGS,
            {"resume": "a"},
            "^--resume: the study has its own space and settings, allowed: no other arg",
        ),
        (Settings("a.yaml"), {"resume": "a"}, "^--resume: the study has its own"),
        (Settings(), {"resume": "a", "dry_run": True}, "^--resume: the study has its own"),
        (Settings(), {"resume": "a", "space": "b.yaml"}, "^--resume: the study has its own"),
    ],
)
def test_a_search_needs_a_space_or_a_folder_to_resume(calls, capsys, settings, arguments, message):
    with pytest.raises(ValueError, match=message):
        training.tune(settings, **arguments)
    assert calls == [] and capsys.readouterr().out == ""


def test_quickstart_begins_with_its_recipe_and_the_settings_of_its_space(calls, capsys):
    training.quickstart(Settings(None, {"model.nlayers": "2"}), output="out")
    ((_, config, output, overrides),) = calls
    assert (config.model.nlayers, output, overrides) == (2, "out", {"model.nlayers": "2"})
    assert config.model.feature_extractor == chain.recipe().model.feature_extractor
    assert config.tune.num_samples == search.load_space(chain.space_file()).settings["tune.num_samples"]
    assert capsys.readouterr().out.splitlines() == [training.START, "next: evforge report 'my runs/quickstart'"]
