import os
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from detector.config import credentials, groups
from detector.config.groups import (
    AnchorConfig,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrackConfig,
    TrainConfig,
    TuneConfig,
)

GROUPS = [getattr(groups, name) for name in groups.__all__ if name.endswith("Config")]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_a_group_is_frozen_has_a_name_and_describes_every_leaf(group):
    assert is_dataclass(group) and group.name.islower()
    with pytest.raises(FrozenInstanceError):
        setattr(group(), fields(group)[0].name, None)
    assert all(f"    {leaf.name}: " in group.__doc__ for leaf in fields(group))


@pytest.mark.parametrize(
    ("group", "leaves", "message"),
    [
        (DataConfig, {"delta_t": 0}, "^data.delta_t: got 0, allowed: a number above 0$"),
        (DataConfig, {"num_workers": -1}, "^data.num_workers: got -1, allowed: a number of at least 0$"),
        (DataConfig, {"preprocess": "histogram"}, "^data.preprocess: got 'histogram', allowed: histo, "),
        (DataConfig, {"event_format": "EVT9"}, "^data.event_format: got 'EVT9', allowed: auto, DAT"),
        (DataConfig, {"reversal": 0.25, "augment": False}, "^data.reversal: got 0.25, allowed: 0 without data.augment"),
        (DataConfig, {"reversal": 1.5}, "^data.reversal: got 1.5, allowed: a number from 0 to 1$"),
        (
            DataConfig,
            {"classes": ["car", "bus", "car"]},
            r"^data.classes: got \['car', 'bus', 'car'\], allowed: distinct",
        ),
        (DataConfig, {"classes": ["car", "empty"]}, '^data.classes: got .*without "empty"$'),
        (DataConfig, {"classes": [""]}, "^data.classes: got the class name '', allowed"),
        (ModelConfig, {"nlayers": -2}, "^model.nlayers: got -2"),
        (
            AnchorConfig,
            {"fg_iou_threshold": 1.25},
            "^anchors.fg_iou_threshold: got 1.25, allowed: a number above 0, up",
        ),
        (
            AnchorConfig,
            {"bg_iou_threshold": 0.6, "fg_iou_threshold": 0.4},
            r"^anchors.bg_iou_threshold: got 0.6, allowed: at most anchors.fg_iou_threshold \(0.4\)$",
        ),
        (AnchorConfig, {"variances": (0.1, 0.0)}, "^anchors.variances: got .*, allowed: two numbers above 0$"),
        (AnchorConfig, {"variances": (0.1,)}, "^anchors.variances: got"),
        (AnchorConfig, {"anchor_list": "VOC"}, "^anchors.anchor_list: got 'VOC', allowed: one of PSEE_ANCHORS, COCO"),
        (AnchorConfig, {"anchor_list": []}, "^anchors.anchor_list: got"),
        (AnchorConfig, {"anchor_list": [(1, 2), (1, 2, 3)]}, "^anchors.anchor_list: got"),
        (LossConfig, {"normalizer": "mean"}, "^loss.normalizer: got 'mean', allowed: one of positives, ema$"),
        (OptimConfig, {"lr": 0.0}, "^optim.lr: got 0.0, allowed: a number above 0$"),
        (EvalConfig, {"nms_thresh": 2}, "^eval.nms_thresh: got 2, allowed: a number from 0 to 1$"),
        (
            TrainConfig,
            {"workers": 2, "min_workers": 3},
            r"^train.min_workers: got 3, allowed: at most train.workers \(2",
        ),
        (TrainConfig, {"use_gpu": "yes"}, "^train.use_gpu: got 'yes', allowed: auto, true or false$"),
        (TrainConfig, {"limit_val_batches": 0}, "^train.limit_val_batches: got 0"),
        (TuneConfig, {"reduction_factor": 1}, "^tune.reduction_factor: got 1, allowed: a number of at least 2$"),
        (TuneConfig, {"max_concurrent": 0}, "^tune.max_concurrent: got 0"),
    ],
)
def test_values_are_checked_when_a_group_is_made(group, leaves, message):
    with pytest.raises(ValueError, match=message):
        group(**leaves)


def test_values_at_the_bounds_and_in_place_of_numbers_are_taken():
    assert DataConfig(num_workers=0, min_box_diag=0, reversal=1, height=None, event_format="auto").height is None
    assert AnchorConfig(bg_iou_threshold=1, fg_iou_threshold=1).fg_iou_threshold == 1
    assert AnchorConfig(anchor_list=[(2.5, 0.5)]).anchor_list == [(2.5, 0.5)]
    assert TrainConfig(workers=3, min_workers=3, use_gpu=False).min_workers == 3
    assert TuneConfig(max_concurrent="auto").max_concurrent == "auto"
    assert OptimConfig(optimizer="torch.optim:SGD").optimizer == "torch.optim:SGD"


def test_a_password_in_the_address_of_the_store_moves_to_the_environment(monkeypatch):
    monkeypatch.setattr(credentials, "_stored", {})
    for name in (credentials.PASSWORD, credentials.USERNAME):
        monkeypatch.setenv(name, "")  # so that monkeypatch removes what the test sets
        monkeypatch.delenv(name)
    assert TrackConfig(tracking_uri="https://ada:pw7@host.org/x").tracking_uri == "https://host.org/x"
    assert (os.environ[credentials.USERNAME], os.environ[credentials.PASSWORD]) == ("ada", "pw7")
