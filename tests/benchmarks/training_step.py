"""Training step of `Vanilla(2, 16, 256)` at 304x240, 10 steps of 2 streams: against the same network frame by frame.

`python tests/benchmarks/training_step.py [--threads N] [--rounds N] [--small]`. The peer is the same network in
float32, stepped frame by frame, with torch's default optimizer; its gradient ends at each frame, which only makes it
cheaper. The limit is a matrix product: the step's multiplications at the rate of one in half precision. Both forms give
the same features, which is checked in float32. On a GPU the peer is the same step in eager float32, and the number of
times that the step waits for the device is printed.
"""

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rounds import Row, arguments, medians, parse, print_rows
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from detector.single_stage_detector import SingleStageDetector
from detector.utils.precision import resolve_precision

STEPS, STREAMS, HEIGHT, WIDTH = 10, 2, 240, 304
BOX = torch.tensor([[40.0, 60.0, 120.0, 130.0, 1.0]])


class Case:
    """A batch and a detector, which both forms train."""

    def __init__(self, small: bool, device: str) -> None:
        torch.manual_seed(0)
        steps, height, width, channels = (3, 64, 96, 8) if small else (STEPS, HEIGHT, WIDTH, 256)
        self.x = (torch.rand(steps, STREAMS, 2, height, width) < 0.05).float().to(device)
        self.targets = [[BOX] * STREAMS for _ in range(steps)]
        self.keep = torch.zeros(STREAMS, device=device)
        detector = SingleStageDetector("Vanilla", 2, 2, max(2, channels // 16), channels, "PSEE_ANCHORS")
        self.detector = detector.to(device, memory_format=torch.channels_last)
        self.half = torch.float16 if resolve_precision("auto", device == "cuda") == "16-mixed" else torch.bfloat16
        self.device = device
        self.optimizers = {
            fused: torch.optim.Adam(self.detector.parameters(), 1e-4, fused=fused or None) for fused in (True, False)
        }

    def by_frame(self) -> None:
        self.detector.reset_all()
        self._learn(self._frame_by_frame(), fused=False)

    def sequence(self, autocast: bool = True) -> None:
        with torch.autocast(self.device, self.half, enabled=autocast):
            self.detector.reset(self.keep)
            features = self.detector.feature_extractor(self.x)
            self._learn(features, fused=True)

    def _frame_by_frame(self) -> list[Tensor]:
        pyramids = [self.detector.feature_extractor(frame[None]) for frame in self.x]
        return [torch.cat(level) for level in zip(*pyramids, strict=True)]

    def _learn(self, features: list[Tensor], fused: bool) -> None:
        detector, optimizer = self.detector, self.optimizers[fused]
        loc, cls = detector.rpn(features)
        loc_targets, cls_targets = detector.box_coder.encode(features, self.x, self.targets)
        losses = detector.criterion(loc, loc_targets, cls, cls_targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    def check(self) -> None:
        """Without batch norm's statistics, a sequence equals its frames."""
        detector = self.detector.eval()
        found = []
        for form in (lambda: detector.feature_extractor(self.x), self._frame_by_frame):
            detector.reset_all()
            found.append([level.detach() for level in form()])
        torch.testing.assert_close(*found, atol=1e-4, rtol=1e-3)
        detector.train()


def _flops(case: Case) -> int:
    with FlopCounterMode(display=False) as counter:
        case.sequence()
    return counter.get_total_flops()


def _product(case: Case, small: bool) -> tuple[Tensor, Tensor]:
    side = 128 if small else 1024
    return tuple(torch.ones(side, side, dtype=case.half, device=case.device) for _ in range(2))


@contextmanager
def _waits() -> Iterator[list]:
    """Collects a warning each time something waits for the GPU."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _rows(args: argparse.Namespace, device: str) -> list[Row]:
    case = Case(args.small, device)
    case.check()
    flops = _flops(case)
    left, right = _product(case, args.small)
    bf16 = device == "cuda" or resolve_precision("auto") == "bf16-mixed"
    forms = {
        f"{case.half}".removeprefix("torch."): case.sequence,
        "float32": lambda: case.sequence(autocast=False),
        "by frame": case.by_frame,
        "product": lambda: left @ right,
    }
    found = medians(forms, args.rounds)
    frames = case.x.shape[0] * case.x.shape[1]
    limit = flops / (2 * left.shape[0] ** 3 / found.pop("product"))
    peer = "float32" if device == "cuda" else "by frame"
    rows = []
    for name in list(forms)[:2]:
        if name == peer:
            continue
        asked = {"cpu": 2.0 if bf16 and name != "float32" else None, "cuda": 3.0}[device]
        rate = [f"{frames / found[form]:.1f} frames/s" for form in (name, peer)]
        ratio, share = found[peer] / found[name], limit / found[name]
        rows.append(Row(f"training step, {name}, {device}", f"float32 {peer}", *rate, ratio, asked, share))
    if device == "cuda":
        with _waits() as waits:
            case.sequence()
        count = float(len(waits))
        rows.append(Row("training step, waits for the GPU", "one", f"{count:.0f}", "1", count, 1.0, at_most=True))
    return rows


def main() -> None:
    args = parse(arguments(__doc__, rounds=5))
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    rows = [row for device in devices for row in _rows(args, device)]
    print_rows("training_step", rows, threads=args.threads)


if __name__ == "__main__":
    main()
