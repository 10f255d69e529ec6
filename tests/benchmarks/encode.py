"""Anchor targets of 40 frames: against torchvision's Matcher and BoxCoder image by image, on one thread.

`python tests/benchmarks/encode.py [--rounds N] [--small]`. Frames hold 0 to 30 boxes. The limit is zeroing the outputs.
Outputs are reused, as training reuses them. Memory is compared with that of dense overlaps of padded frames. Where
there is a GPU the torch form is measured there, too.
"""

import argparse
from collections.abc import Callable

import torch
from rounds import Row, arguments, medians, memory_growth, parse, print_rows
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou

from detector.anchors import Anchors
from detector.box import batch_box_iou, pack_boxes_list, xywh2xyxy
from detector.matching import encoding

FRAMES, MOST = 40, 30
SIZES = ((360, 640, "PSEE_ANCHORS"), (720, 1280, "COCO_ANCHORS"))


class Case:
    """Random boxes in a batch of frames, and what encodes them."""

    def __init__(self, height: int, width: int, anchor_list: str, counts: list[int], device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.coder = Anchors(5, 32, anchor_list, allow_low_quality_matches=False)
        self.x = torch.zeros(len(counts), 1, 1, height, width, device=device)
        self.features = [
            torch.zeros(len(counts), 1, -(-height // stride), -(-width // stride), device=device)
            for stride in self.coder.strides
        ]
        self.targets = [[self._boxes(count, height, width)] for count in counts]
        self.anchors = self.coder(self.features, self.x)[0]
        self.corners = xywh2xyxy(self.anchors)
        self.matcher, self.box_coder = Matcher(0.5, 0.3), BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.out = self.coder.encode(self.features, self.x, self.targets)

    @staticmethod
    def _boxes(count: int, height: int, width: int) -> Tensor:
        centre, size = torch.rand(count, 2) * torch.tensor([width, height]), torch.exp(3 + torch.rand(count, 2) * 2)
        labels = torch.randint(1, 4, (count, 1))
        return torch.cat([centre - size / 2, centre + size / 2, labels], dim=1)

    def ours(self, low_quality: bool = False) -> tuple[Tensor, Tensor]:
        self.coder.allow_low_quality_matches = low_quality
        self.out = self.coder.encode(self.features, self.x, self.targets, out=self.out)
        return self.out

    def in_torch(self) -> tuple[Tensor, Tensor]:
        before, encoding.HAS_COMPILER = encoding.HAS_COMPILER, False
        try:
            return self.ours()
        finally:
            encoding.HAS_COMPILER = before

    def peer(self) -> tuple[Tensor, Tensor]:
        """As torchvision's RetinaNet finds its targets."""
        loc, labels = [], []
        for (target,) in self.targets:
            boxes = target.to(self.corners.device)
            if len(boxes) == 0:
                loc.append(torch.zeros_like(self.anchors))
                labels.append(torch.zeros(len(self.anchors), dtype=torch.int64, device=boxes.device))
                continue
            match = self.matcher(box_iou(boxes[:, :4], self.corners))
            label = boxes[:, 4].long()[match.clamp(min=0)]
            label[match == Matcher.BELOW_LOW_THRESHOLD] = 0
            label[match == Matcher.BETWEEN_THRESHOLDS] = -1
            offsets = self.box_coder.encode([boxes[match.clamp(min=0), :4]], [self.corners])[0]
            loc.append(offsets)
            labels.append(label)
        return torch.stack(loc), torch.stack(labels)

    def dense(self) -> Tensor:
        packed = pack_boxes_list([target for (target,) in self.targets])[0].to(self.corners.device)
        return batch_box_iou(self.corners, packed[..., :4]).max(dim=2).values

    def zero(self) -> None:
        for tensor in self.out:
            tensor.zero_()

    def check(self) -> None:
        """All forms give the same labels, but where two overlaps are equal to 1e-6, and the same offsets."""
        loc, labels = (tensor.clone() for tensor in self.ours())
        for other_loc, other in (self.in_torch(), self.peer()):
            for frame in (labels != other).any(dim=1).nonzero()[:, 0].tolist():
                ious = box_iou(self.targets[frame][0][:, :4], self.corners.cpu())
                best = ious.topk(min(2, len(ious)), dim=0).values
                edge = (best[:1] - torch.tensor([[0.3], [0.5]])).abs().amin(dim=0) <= 1e-6
                tie = edge | (best[0] - best[-1] <= 1e-6) if len(ious) > 1 else edge
                assert tie[(labels[frame] != other[frame]).cpu()].all(), f"frame {frame}: other labels"
            same = (labels == other) & (labels > 0)
            torch.testing.assert_close(loc[same], other_loc[same], atol=1e-4, rtol=1e-4)


def _counts(frames: int, most: int) -> list[int]:
    return torch.randint(0, most + 1, (frames,), generator=torch.Generator().manual_seed(1)).tolist()


def _speed(height: int, width: int, anchor_list: str, args: argparse.Namespace, device: str) -> list[Row]:
    case = Case(height, width, anchor_list, _counts(4 if args.small else FRAMES, MOST), device)
    case.check()
    forms: dict[str, Callable[[], object]] = {"torch": case.in_torch, "peer": case.peer, "limit": case.zero}
    if encoding.HAS_COMPILER and device == "cpu":
        forms |= {"compiled": case.ours, "low quality": lambda: case.ours(low_quality=True)}
    found = {name: 1e3 * seconds for name, seconds in medians(forms, args.rounds).items()}
    name = f"{width}x{height}, {case.coder.num_anchors} a cell, {device}"
    asked = {"compiled": 25.0, "torch": 5.0 if device == "cpu" else None, "low quality": None}
    rows = [
        Row(
            f"encode, {form}, {name}",
            "Matcher + BoxCoder",
            f"{found[form]:.2f} ms",
            f"{found['peer']:.1f} ms",
            found["peer"] / found[form],
            asked[form],
            found["limit"] / found[form],
        )
        for form in asked
        if form in found
    ]
    if "compiled" in found and height == SIZES[-1][0]:
        speed = found["limit"] / found["compiled"]
        compared = f"{found['compiled']:.2f} ms", f"{found['limit']:.2f} ms"
        rows.append(Row(f"encode, compiled, {name}", "zeroing the outputs", *compared, speed, 0.5))
    return rows


def _growth(args: argparse.Namespace) -> list[Row]:
    frames = 4 if args.small else FRAMES
    height, width, anchor_list = SIZES[-1]
    cases = {count: Case(height, width, anchor_list, [count] * frames) for count in (1, 100)}
    found = medians({str(count): case.ours for count, case in cases.items()}, args.rounds)
    name = f"encode, {width}x{height}, 100 boxes per frame"
    grown = f"{1e3 * found['100']:.2f} ms", f"{1e3 * found['1']:.2f} ms"
    rows = [Row(name, "1 box a frame", *grown, found["100"] / found["1"], 5.0, at_most=True)]
    few = Case(height, width, anchor_list, [100] * (2 if args.small else 10))  # 40 frames of dense overlaps take 6 GB
    ours, dense = memory_growth(few.ours), memory_growth(few.dense)
    if ours is not None and dense is not None:
        outputs = sum(tensor.nbytes for tensor in few.out)  # reused: they are there before
        sizes = f"{(ours + outputs) / 2**20:.0f} MiB", f"{dense / 2**20:.0f} MiB"
        peer = f"dense padded IoU, {len(few.targets)} frames"
        rows.append(Row(f"{name}: memory", peer, *sizes, dense / (ours + outputs), 50.0))
    return rows


def main() -> None:
    args = parse(arguments(__doc__, rounds=15))
    rows: list[Row] = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for size in SIZES[:1] if args.small else SIZES:
            rows += _speed(*size, args, device)
    print_rows("encode", rows + _growth(args), threads=args.threads)


if __name__ == "__main__":
    main()
