import pytest
from toy_dataset import TINY, write_toy_dataset

from detector.config import Config
from detector.evaluation.quantities import label_counts


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = write_toy_dataset(tmp_path_factory.mktemp("quantities") / "dataset", {"val": 2}, num_frames=12)
    return Config().with_overrides({**TINY, "data.dataset_path": str(folder)})


def test_labels_behind_each_metric(config):
    counts = label_counts(config, "val")
    assert (counts["mean_ap"], counts["ap/block"], counts["ap/tower"]) == (48, 24, 24), "2 boxes in 2 x 12 frames"
    assert counts["mean_ap_big"] == 0
    one = label_counts(config.with_overrides({"data.classes": ["tower"]}), "val")
    assert (one["mean_ap"], one["ap/tower"], "ap/block" in one) == (24, 24, False)


def test_the_protocol_decides_what_counts(config):
    later = label_counts(config.with_overrides({"data.skip_us": 300_000}), "val")
    assert later["mean_ap"] == 24, "the labels at 0.35, 0.40, ..., 0.60 s"
    with pytest.raises(ValueError, match="val: no labelled frame counts: "):
        label_counts(config.with_overrides({"data.skip_us": 600_000}), "val")
