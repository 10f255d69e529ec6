import os
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from detector.config import Config, credentials, groups
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


DEFAULTS = {
    "data": {
        "dataset_path": "",
        "preprocess": "histo",
        "max_incr_per_pixel": 5.0,
        "num_utbins": 3,
        "split_polarity": True,
        "delta_t": 50000,
        "height": None,
        "width": None,
        "num_tbins": 12,
        "batch_size": 4,
        "num_workers": 2,
        "classes": [],
        "min_box_diag": 30.0,
        "min_box_side": 10.0,
        "skip_us": 500000,
        "interpolation": False,
        "augment": True,
        "reversal": 0.0,
        "max_faulty_events": 0.001,
        "event_format": "auto",
        "event_columns": None,
        "label_format": "auto",
    },
    "model": {
        "feature_extractor": "Vanilla",
        "feature_base": 16,
        "feature_channels_out": 256,
        "first_stride": 16,
        "num_levels": 5,
        "nlayers": 0,
        "max_boxes_per_input": 500,
    },
    "anchors": {
        "anchor_list": "PSEE_ANCHORS",
        "base_size": 32,
        "fg_iou_threshold": 0.5,
        "bg_iou_threshold": 0.3,
        "allow_low_quality_matches": True,
        "variances": (0.1, 0.2),
    },
    "loss": {
        "cls_loss_func": "softmax_focal_loss",
        "box_loss_func": "smooth_l1_loss",
        "focal_alpha": 0.25,
        "focal_gamma": 2.0,
        "loc_beta": 0.11,
        "loc_weight": 1.0,
        "normalizer": "positives",
    },
    "optim": {
        "optimizer": "adam",
        "lr": 0.0002,
        "weight_decay": 1e-05,
        "lr_scheduler": "exponential",
        "lr_scheduler_step_gamma": 0.98,
        "warmup_epochs": 0.0,
        "gradient_clip": 1.0,
    },
    "eval": {"score_thresh": 0.001, "nms_thresh": 0.5, "empty_frames": "count"},
    "train": {
        "max_epochs": 20,
        "precision": "auto",
        "workers": 1,
        "min_workers": None,
        "use_gpu": "auto",
        "seed": 0,
        "val_every": 1,
        "storage": "runs",
        "max_failures": 2,
        "pretrained": None,
        "limit_train_batches": None,
        "limit_val_batches": None,
    },
    "tune": {
        "num_samples": 8,
        "searcher": "optuna",
        "scheduler": "asha",
        "metric": "val_mean_ap",
        "mode": "max",
        "against": "none",
        "max_concurrent": "auto",
        "grace_epochs": 1,
        "reduction_factor": 3,
        "final_seeds": 3,
        "final_top_k": 2,
        "space_seed": 0,
    },
    "track": {"tracking_uri": None, "experiment": "evforge", "registered_model_name": "evforge-detector"},
}
"""A change of a default changes the results of users who do not set it, so it is made here, too."""


def test_defaults():
    assert Config().to_flat() == {
        f"{group}.{key}": value for group, leaves in DEFAULTS.items() for key, value in leaves.items()
    }
