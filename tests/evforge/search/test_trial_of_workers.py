import pytest

from detector.config import Config
from evforge import EvForgeError
from evforge.search.dry_run import describe_search
from evforge.search.tune import prepare, tune
from evforge.tracking.tracker import Tracker

SPACE = """
tune: {searcher: grid, scheduler: none, final_seeds: 1}
train: {workers: 2, max_epochs: 2}
space:
  optim.lr: {grid: [0.005, 1.0e-9]}
"""


def test_a_trial_of_two_workers(tiny_config, space_file, ray_head):
    """One, as it takes a while to start its processes."""
    if ray_head.cpus < 2:
        pytest.skip("Ray has one CPU here")
    space_file.write_text(SPACE.replace("[0.005, 1.0e-9]", "[0.005]"))
    result = tune(tiny_config, space_file, {"train.max_epochs": 1})
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    runs = tracker.runs(result.run_id)
    (best,) = runs
    assert best.status == "FINISHED"
    assert best.params["optim.lr"] == str(Config.load(result.best_config).optim.lr) == "0.005"
    curve = tracker.metric_history(best.run_id, "val_mean_ap")
    assert [epoch for epoch, _ in curve] == [1]
    assert result.score == max(value for _, value in curve) > 0
    assert result.best_checkpoint.is_file() and result.best_run_id == best.run_id


def test_a_search_larger_than_the_machine_starts_nothing(tiny_config, space_file, ray_head, tmp_path):
    with pytest.raises(EvForgeError, match=r"train.workers: got 999, allowed: at most the \d+ CPU cores"):
        tune(tiny_config, space_file, {"train.workers": 999})
    assert not (tmp_path / "runs").exists()


def test_the_dry_run_describes_the_workers(tiny_config, space_file, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("evforge.cluster.session.cpu_count", lambda: 8)
    monkeypatch.setattr("evforge.search.dry_run.measure_rate", lambda *_: 10.0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    config, space = prepare(tiny_config, space_file)
    text = describe_search(config, space)
    assert "resources: 2 workers of 1 CPU per trial, each with 2 threads; 2 at a time, of 8 CPUs and 0 GPUs\n" in text
    assert "a trial reserves all workers together and no CPU before, so that trials cannot block each other" in text
    # 2 x (240 + 60) frames per trial, 2 trials, 2 x 2 workers of 10 frames per second: 30 s
    assert "2 epochs of 12 steps (240 frames)" in text and "0.0083 h" in text
    with pytest.raises(EvForgeError, match="train.workers: got 9, allowed: at most the 8 CPU cores"):
        describe_search(config.with_overrides({"train.workers": 9}), space)
