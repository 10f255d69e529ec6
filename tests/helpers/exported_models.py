"""Exported detectors with random weights that return boxes everywhere."""

import torch

from detector.config import Config
from detector.jitting import SSD, export_ssd
from detector.preprocess.representation import representation_of
from detector.single_stage_detector import SingleStageDetector

CLASSES, LABEL_MAP = ["car", "walker"], {0: "walker", 3: "car", 5: "empty"}


def spread(net):
    """Spread scores and offsets, as a training does."""
    with torch.no_grad():
        for head in (net.rpn.cls_head[-1], net.rpn.box_head[-1]):
            head.weight.normal_(std=0.5)
            head.bias.normal_(std=0.5)


def export_noisy(folder, height=48, width=64, score_thresh=0.45, **leaves):
    """Export a tiny detector and return its folder."""
    config = Config().with_overrides({f"data.{name}": value for name, value in leaves.items()})
    torch.manual_seed(2)
    net = SingleStageDetector(
        "Vanilla",
        representation_of(config.data).channels,
        2,
        4,
        8,
        "PSEE_ANCHORS",
        num_levels=2,
        first_stride=8,
        base_size=16,
    )
    spread(net)
    sizes = {"classes": CLASSES, "label_map": LABEL_MAP, "height": height, "width": width}
    params = vars(config.to_hparams()) | sizes
    export_ssd(SSD(net.eval()), params, folder, nms_thresh=0.5, score_thresh=score_thresh)
    return folder
