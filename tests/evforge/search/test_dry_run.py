import json

import pytest
from repository import ROOT

from evforge.cli.main import main
from evforge.cluster import session
from evforge.search import dry_run
from evforge.search.dry_run import describe_search
from evforge.search.trial_resources import trial_count
from evforge.search.tune import prepare
from evforge.space.space import load_space

SPACES = ROOT / "tune_spaces"
SPACE = """
tune: {num_samples: 5, searcher: random, scheduler: none, final_seeds: 2, final_top_k: 2}
space:
  anchors.anchor_list: {choice: [PSEE_ANCHORS, [[1, 1.25], [2.3, 1.3]]]}
  model.feature_base: {randint: [2, 4]}
"""


@pytest.fixture
def machine(monkeypatch):
    """A machine of 8 cores on which a trial trains 10 frames per second."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session, "cpu_count", lambda: 8)
    monkeypatch.setattr(dry_run, "measure_rate", lambda *_: 10.0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


def description_of(config, tmp_path, text, **overrides):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return describe_search(*prepare(config, path, overrides))


def test_the_description_of_a_search(tiny_config, tmp_path, machine):
    text = description_of(tiny_config, tmp_path, SPACE)
    # 2 lists x 3 widths. Of 4 files of 60 frames come 48 chunks of 5 frames in 2 streams, 24 steps; of the one file
    # to validate on 12 steps of one stream: 2 x (240 + 60) frames per trial, 5 trials and 2 again.
    assert f"space: {tmp_path / 'space.yaml'}, 6 combinations\n" in text
    assert "  anchors.anchor_list  choice of PSEE_ANCHORS, 1:1.25 2.3:1.3\n" in text
    assert "  model.feature_base   randint from 2 to 4\n" in text
    assert text.count("\n  anchors.anchor_list PSEE_ANCHORS, model.feature_base ") >= 1
    assert "trials: 5, by random\n  then the best 2 again with 1 further seeds each: 2 more" in text
    assert "resources: 1 CPU and 1 threads per trial; 5 at a time, of 8 CPUs and 0 GPUs\n" in text
    assert "cost: 2 epochs of 24 steps (240 frames), 2 validations of 60 frames: 600 frames per trial\n" in text
    # 4200 frames, 5 x 10 a second: 84 s.
    assert "  at most 4,200 frames\n  0.023 h at 10 frames/s per trial" in text
    assert "anchors: coverage of 480 training boxes\n" in text
    assert {line.split()[0] for line in text.splitlines()[-2:]} == {"PSEE_ANCHORS", "1:1.25"}
    assert not (tmp_path / "runs").exists()


def test_the_facts_of_a_search_as_json(tiny_config, tmp_path, machine, capsys):
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "settings.yaml").write_text(tiny_config.to_yaml())
    command = ["tune", str(tmp_path / "space.yaml"), "--config", str(tmp_path / "settings.yaml")]
    assert main([*command, "--dry_run", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["domains"]["model.feature_base"] == {"kind": "randint", "options": [], "low": 2, "high": 4}
    assert (facts["trials"], facts["final_trials"], facts["concurrent_trials"], facts["cpus"]) == (5, 2, 5, 8)
    assert facts["per_trial"] == {"cpu": 1, "workers": 1, "threads": 1}
    cost = facts["cost"]
    assert (cost["steps_per_epoch"], cost["frames_per_trial"], cost["most_frames"]) == (24, 600, 4200)
    assert cost["hours"] == pytest.approx([84 / 3600] * 2)
    assert facts["training_boxes"] == 480
    assert main([*command, "--json"]) == 2
    assert capsys.readouterr().err == "evforge: error: --json: allowed with --dry_run only\n"


def test_asha_costs_less(tiny_config, tmp_path, machine):
    # 8 validations: all trials see 2, half of them 4, a quarter 8: 2 + 1 + 1 = 4 of 8.
    changes = {"train.max_epochs": 8, "tune.scheduler": "asha", "tune.grace_epochs": 2, "tune.reduction_factor": 2}
    text = description_of(tiny_config, tmp_path, SPACE, **changes, **{"tune.final_seeds": 1})
    assert (
        "asha stops weak trials: 1 in 2 continues after 2 of 8 validations, then after 2 times as many, and so on"
        in text
    )
    assert "at most 12,000 frames, about 6,000 with asha\n  0.033 h to 0.067 h" in text
    assert "again" not in text


def test_a_continuous_space_and_the_settings_own_list(tiny_config, tmp_path, machine):
    space = "tune: {searcher: optuna}\nspace: {optim.lr: {loguniform: [1e-4, 1e-2]}, model.nlayers: {choice: [0, 1]}}"
    text = description_of(tiny_config, tmp_path, space)
    assert "space.yaml, continuous: 1 ranges, 2 combinations of the other keys' values\n" in text
    assert "examples of the first samples of optuna:\n  optim.lr 0.0" in text
    assert text.splitlines()[-1].split()[0] == "PSEE_ANCHORS"


def test_a_grid_is_counted_with_its_constraints(tiny_config, tmp_path, machine):
    text = """
tune: {searcher: grid, num_samples: 100}
space:
  anchors.bg_iou_threshold: {grid: [0.2, 0.4]}
  anchors.fg_iou_threshold: {grid: [0.3, 0.5]}
  constraints: [anchors.bg_iou_threshold <= anchors.fg_iou_threshold]
"""
    found = description_of(tiny_config, tmp_path, text)
    assert "space.yaml, 3 combinations\n" in found and "trials: 3, by grid" in found
    assert "first samples:\n  anchors.bg_iou_threshold 0.2, anchors.fg_iou_threshold 0.3\n" in found


def test_long_values_are_on_separate_lines(tiny_config, tmp_path, machine):
    lists = "[[[1, 1.25], [2.3, 1.3], [2, 1.3], [2.5, 1.3]], PSEE_ANCHORS]"
    text = description_of(tiny_config, tmp_path, f"space: {{anchors.anchor_list: {{choice: {lists}}}}}")
    assert "choice of\n      1:1.25 2.3:1.3 2:1.3 2.5:1.3\n      PSEE_ANCHORS\n" in text


@pytest.mark.parametrize("flag", ["--dry_run", "--dry-run"])
def test_a_dry_run_starts_nothing(tiny_config, tmp_path, machine, monkeypatch, capsys, flag):
    monkeypatch.setattr("evforge.search.tune.driven_run", lambda *_, **__: pytest.fail("a study was started"))
    space, config = tmp_path / "space.yaml", tmp_path / "config.yaml"
    space.write_text(SPACE)
    config.write_text(tiny_config.to_yaml())
    before = sorted(tmp_path.iterdir())
    assert main(["tune", str(space), "--config", str(config), flag]) == 0
    assert "trials: 5, by random" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_space_of_the_repository_dry_runs(tiny_config, machine, path, capsys):
    config = tiny_config.with_overrides({"train.max_epochs": 4})
    text = describe_search(*prepare(config, path))
    assert "cost: 4 epochs of 24 steps" in text
    if "fit:" in path.read_text():
        assert "fitted 6 anchors to 480 training boxes: " in capsys.readouterr().out
    config = config.with_overrides(load_space(path).settings)
    assert trial_count(config, prepare(config, path)[1]) >= 4
