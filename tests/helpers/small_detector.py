"""A tiny detector with random weights that returns boxes everywhere, and clips for it."""

import torch
from exported_models import spread

from detector.config import Config
from detector.jitting import SSD
from detector.single_stage_detector import SingleStageDetector

CHANNELS, HEIGHT, WIDTH = 2, 64, 96
PARAMS = vars(Config().to_hparams()) | {
    "label_map": {0: "a", 3: "b"},
    "classes": ["a", "b"],
    "height": HEIGHT,
    "width": WIDTH,
}


def small_ssd() -> SSD:
    torch.manual_seed(0)
    net = SingleStageDetector("Vanilla", CHANNELS, 2, 4, 8, "PSEE_ANCHORS", num_levels=2, first_stride=8, base_size=16)
    spread(net)
    with torch.no_grad():
        net.train()(torch.rand(4, CHANNELS, HEIGHT, WIDTH))  # batch norms that do something
    return SSD(net.eval())


def clip(steps: int, streams: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((steps, streams, CHANNELS, HEIGHT, WIDTH), generator=generator)
