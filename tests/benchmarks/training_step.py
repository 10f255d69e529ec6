"""Training step of `Vanilla(2, 16, 256)` at 304x240: frames/s against the same network stepped frame by frame.

`python tests/benchmarks/training_step.py [--threads N] [--rounds N]`. The rounds of all forms are interleaved in one
process and their medians compared: absolute figures depend on the machine, ratios carry over. Stepped by frame, the
gradient ends at each frame, which only makes that form cheaper.
"""

import argparse
import json
import statistics
import time

import torch
from torch import Tensor

from detector.lightning_model import resolve_precision
from detector.single_stage_detector import SingleStageDetector

STEPS, STREAMS, HEIGHT, WIDTH = 10, 2, 240, 304
BOX = torch.tensor([[40.0, 60.0, 120.0, 130.0, 1.0]])


def _batch() -> tuple[Tensor, list, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand((STEPS, STREAMS, 2, HEIGHT, WIDTH), generator=generator) < 0.05).float()
    return x, [[BOX] * STREAMS for _ in range(STEPS)], torch.ones(STREAMS)


def _step(detector: SingleStageDetector, optimizer: torch.optim.Optimizer, precision: str, by_frame: bool) -> None:
    x, targets, keep = _batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        if by_frame:  # the heads see all frames at once in both forms: only the backbone's stepping differs
            pyramids = [detector.feature_extractor(frame[None]) for frame in x]
            features = [torch.cat(level) for level in zip(*pyramids, strict=True)]
        else:
            detector.reset(keep)
            features = detector.feature_extractor(x)
        loc, cls = detector.rpn(features)
        losses = detector.criterion(loc, *_targets(detector, features, x, targets, cls))
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()


def _targets(detector: SingleStageDetector, features: list, x: Tensor, targets: list, cls: Tensor) -> tuple:
    loc_targets, cls_targets = detector.box_coder.encode(features, x, targets)
    return loc_targets, cls, cls_targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each form")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    auto = resolve_precision("auto")
    forms = {f"sequence, {auto}": (auto, False), "sequence, 32-true": ("32-true", False), "by frame": ("32-true", True)}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    detector = SingleStageDetector("Vanilla", 2, 2, 16, 256, "PSEE_ANCHORS").to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(detector.parameters(), 1e-4)
    for number in range(args.rounds + 1):
        for name, (precision, by_frame) in forms.items():
            detector.reset_all()
            start = time.perf_counter()
            _step(detector, optimizer, precision, by_frame)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    rates = {name: STEPS * STREAMS / statistics.median(values) for name, values in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:<24} {rate:6.1f} frames/s   {rate / rates['by frame']:.2f} x by frame")
    print(json.dumps({"benchmark": "training_step", "threads": args.threads, "frames_per_s": rates}))


if __name__ == "__main__":
    main()
