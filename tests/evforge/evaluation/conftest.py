import pytest
from toy_dataset import TINY

from detector.config import Config
from evforge.tracking.tracker import Tracker
from evforge.training.callbacks import ReportMetrics
from evforge.training.run_folder import CHECKPOINT_NAME, write_record
from evforge.training.train import check_config, fit


@pytest.fixture(scope="module")
def trained_checkpoint(tiny_dataset, tmp_path_factory):
    """A trained checkpoint and the figures of its validation."""
    folder = tmp_path_factory.mktemp("trained")
    storage = {"data.dataset_path": str(tiny_dataset), "track.tracking_uri": f"sqlite:///{folder}/unused.db"}
    reports = []

    def report(metrics, source):
        reports.append(metrics)
        (folder / "best.ckpt").write_bytes((source / CHECKPOINT_NAME).read_bytes())

    fit(check_config(Config().with_overrides({**TINY, **storage})), [ReportMetrics(report)], threads=1)
    return folder / "best.ckpt", reports[-1]


@pytest.fixture
def trained(trained_checkpoint, tiny_config, tmp_path):
    """A run's folder with its best checkpoint and record, and the figures of its validation."""
    folder = tmp_path / "runs" / "train-1"
    folder.mkdir(parents=True)
    (folder / "best.ckpt").write_bytes(trained_checkpoint[0].read_bytes())
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    run_id = tracker.start_run("train-1", {})
    write_record(folder, tiny_config, tracker, run_id)
    return folder, trained_checkpoint[1], tracker, run_id
