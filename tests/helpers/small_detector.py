"""A tiny detector with random weights that returns boxes everywhere, clips for it, and its export."""

from pathlib import Path

import torch

from detector.config import Config
from detector.jitting import SSD, export_ssd
from detector.preprocess.representation import representation_of
from detector.single_stage_detector import SingleStageDetector

CHANNELS, HEIGHT, WIDTH = 2, 64, 96
PARAMS = vars(Config().to_hparams()) | {
    "label_map": {0: "a", 3: "b"},
    "classes": ["a", "b"],
    "height": HEIGHT,
    "width": WIDTH,
}
CLASSES, LABEL_MAP = ["car", "walker"], {0: "walker", 3: "car", 5: "empty"}


def spread(net: SingleStageDetector) -> None:
    """Spread scores and offsets, as a training does."""
    with torch.no_grad():
        for head in (net.rpn.cls_head[-1], net.rpn.box_head[-1]):
            head.weight.normal_(std=0.5)
            head.bias.normal_(std=0.5)


def small_net(channels: int = CHANNELS, num_classes: int = 2, seed: int = 0, **settings) -> SingleStageDetector:
    torch.manual_seed(seed)
    settings = {"num_levels": 2, "first_stride": 8, "base_size": 16, **settings}
    net = SingleStageDetector("Vanilla", channels, num_classes, 4, 8, "PSEE_ANCHORS", **settings)
    spread(net)
    return net.eval()


def small_ssd() -> SSD:
    net = small_net()
    with torch.no_grad():
        net.train()(torch.rand(4, CHANNELS, HEIGHT, WIDTH))  # batch norms that do something
    return SSD(net.eval())


def clip(steps: int, streams: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((steps, streams, CHANNELS, HEIGHT, WIDTH), generator=generator)


def export_small(
    folder: Path,
    height: int = 48,
    width: int = 64,
    score_thresh: float = 0.45,
    classes: list[str] = CLASSES,
    label_map: dict[int, str] = LABEL_MAP,
    **leaves,
) -> Path:
    """Export a detector; `leaves` are settings of the group `data`."""
    config = Config().with_overrides({f"data.{name}": value for name, value in leaves.items()})
    net = small_net(representation_of(config.data).channels, len(classes), seed=2)
    sizes = {"classes": classes, "label_map": label_map, "height": height, "width": width}
    params = vars(config.to_hparams()) | sizes
    export_ssd(SSD(net), params, folder, nms_thresh=0.5, score_thresh=score_thresh)
    return folder
