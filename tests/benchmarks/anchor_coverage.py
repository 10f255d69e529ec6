"""Coverage of a million boxes by 50 lists of anchors, on one core: seconds, against all overlaps computed densely.

`python tests/benchmarks/anchor_coverage.py [--boxes N] [--lists N] [--small]`. The lists have 3 to 9 anchors per cell.
The peer computes the IoU of boxes with every anchor of the pyramid by torchvision, of as many boxes as take it about a
second; both give the same recall, which is checked.
"""

import time

import numpy as np
import torch
from rounds import Row, arguments, parse, print_rows
from torchvision.ops import box_iou

from detector.anchors import Anchors
from detector.coverage.anchor_coverage import AnchorPyramid, LabelBoxes, measure_coverage

HEIGHT, WIDTH, STRIDE, LEVELS, BASE = 360, 640, 16, 5, 24
DENSE_BOXES = 2_000


def _labels(count: int) -> LabelBoxes:
    """Boxes of three classes with log-normal sizes (median 45 pixels) and ratios, anywhere in the frame."""
    rng = np.random.default_rng(0)
    side, ratio = np.exp(rng.normal(np.log(45), 0.7, count)), np.exp(rng.normal(0.3, 0.5, count))
    sides = np.stack([side / np.sqrt(ratio), side * np.sqrt(ratio)], axis=1).clip(5, (WIDTH - 1, HEIGHT - 1))
    first = rng.random((count, 2)) * ((WIDTH, HEIGHT) - sides)
    return LabelBoxes.from_corners(
        np.concatenate([first, first + sides], axis=1), rng.integers(1, 4, count), 3, HEIGHT, WIDTH
    )


def _lists(count: int) -> list[list[tuple[float, float]]]:
    rng = np.random.default_rng(1)
    sizes = [3 + index % 7 for index in range(count)]
    return [[(float(r), float(s)) for r, s in 2.0 ** rng.uniform((-1.5, -0.5), (1.5, 0.5), (n, 2))] for n in sizes]


def _dense_recall(labels: LabelBoxes, anchors: list[tuple[float, float]]) -> float:
    """Share of boxes with an IoU of at least 0.5."""
    layer = Anchors(LEVELS, BASE, anchors, first_stride=STRIDE)
    features = [torch.zeros(1, 1, -(-HEIGHT // stride), -(-WIDTH // stride)) for stride in layer.strides]
    centre, size = layer(features, torch.zeros(1, 1, HEIGHT, WIDTH))[0].double().split(2, dim=1)
    boxes = torch.from_numpy(labels.boxes)
    overlaps = box_iou(
        torch.cat([centre - size / 2, centre + size / 2], dim=1),
        torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=1),
    )
    return float((overlaps.amax(dim=0) >= 0.5).double().mean())


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--boxes", type=int, default=1_000_000, help="boxes (a million)")
    parser.add_argument("--lists", type=int, default=50, help="lists (50)")
    args = parse(parser)
    boxes, count = (1000, 2) if args.small else (args.boxes, args.lists)
    labels, lists = _labels(boxes), _lists(count)
    pyramids = [AnchorPyramid(anchors, BASE, STRIDE, LEVELS) for anchors in lists]
    few = labels.take(np.arange(min(DENSE_BOXES, boxes)))
    assert measure_coverage(few, pyramids[0]).covered == _dense_recall(few, lists[0])  # compiles, too
    start = time.perf_counter()
    for pyramid in pyramids:
        measure_coverage(labels, pyramid)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    _dense_recall(few, lists[0])
    dense = (time.perf_counter() - start) / len(few)
    ours = seconds / len(labels) / len(lists)
    figures = f"{ours * 1e9:.0f} ns a box and list", f"{dense * 1e9:.0f} ns a box and list"
    path = f"coverage of {len(labels):,} boxes by {len(lists)} lists"
    print_rows("anchor_coverage", [Row(path, "dense overlaps", *figures, dense / ours)], seconds=seconds)


if __name__ == "__main__":
    main()
