"""COCO mAP of `CocoEvaluator` against pycocotools as it is, on the same boxes; the figures must be equal.

`python tests/benchmarks/coco.py [--frames N] [--rounds N] [--small]`, from structured boxes to metrics. The row of
faster-coco-eval is left out where it is missing: `pip install faster-coco-eval`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

import numpy as np
from rounds import Row, arguments, medians, parse, print_rows

from detector.evaluation import coco_backend
from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.events import BBOX_dtype

CLASSES = ("pedestrian", "two wheeler", "car")
HEIGHT, WIDTH = 360, 640
SCENES = {"20 detections a frame": 20, "100 detections a frame, most of them wrong": 100}
FORMS = {"faster-coco-eval": 4.0, "pycocotools, sparse": None}
"""Ours, and the ratio asked for."""


def make_boxes(frames: int, detections: int) -> tuple[np.ndarray, np.ndarray]:
    """0 to 12 labels a frame, and detections of which up to 8 lie near a label; scores are rounded so that some tie."""
    rng = np.random.default_rng(0)
    labels = random_boxes(rng, rng.integers(0, 13, frames))
    found = random_boxes(rng, np.full(frames, detections))
    first = np.searchsorted(labels["t"], found["t"])
    place = np.arange(len(found)) % detections
    near = place < np.minimum(8, np.searchsorted(labels["t"], found["t"], side="right") - first)
    source = labels[(first + place)[near]]
    for name in ("x", "y", "w", "h"):
        found[name][near] = source[name] * rng.normal(1, 0.04, near.sum())
    found["class_id"][near] = source["class_id"]
    found["class_confidence"] = np.round(np.where(near, rng.beta(4, 2, len(found)), rng.beta(1, 8, len(found))), 3)
    return labels, found


def random_boxes(rng: np.random.Generator, counts: np.ndarray) -> np.ndarray:
    boxes = np.zeros(counts.sum(), BBOX_dtype)
    boxes["t"] = np.repeat(np.arange(len(counts)) * 50_000, counts)
    boxes["w"], boxes["h"] = rng.lognormal(3.5, 0.6, (2, len(boxes)))
    boxes["x"], boxes["y"] = rng.uniform(0, WIDTH - 40, len(boxes)), rng.uniform(0, HEIGHT - 40, len(boxes))
    boxes["class_id"] = rng.integers(0, len(CLASSES), len(boxes))
    return boxes


@contextmanager
def replaced(name: str, value: Callable) -> Iterator[None]:
    """`detector.evaluation.coco_backend` with another function."""
    before = getattr(coco_backend, name)
    setattr(coco_backend, name, value)
    try:
        yield
    finally:
        setattr(coco_backend, name, before)


def measure(form: str, labels: np.ndarray, detections: np.ndarray) -> dict[str, float]:
    """What a form finds."""
    from pycocotools.cocoeval import COCOeval

    library = "faster-coco-eval" if form == "faster-coco-eval" else "pycocotools"
    evaluation = coco_backend._sparse_evaluation if form != "pycocotools" else lambda: COCOeval
    evaluator = CocoEvaluator(CLASSES, HEIGHT, WIDTH)
    with replaced("installed_library", lambda: library), replaced("_sparse_evaluation", evaluation):
        evaluator.partial_eval([labels], [detections])
        return evaluator.accumulate()


def rows(scene: str, args: argparse.Namespace) -> list[Row]:
    frames = 20 if args.small else args.frames
    boxes = make_boxes(frames, SCENES[scene])
    ours = [form for form in FORMS if form != "faster-coco-eval" or find_spec("faster_coco_eval")]
    expected = measure("pycocotools", *boxes)
    for form in ours:
        found = measure(form, *boxes)
        for key, value in expected.items():
            assert abs(found[key] - value) <= 1e-12, f"{form}: {key} is {found[key]}, by pycocotools {value}"
    seconds = medians({form: partial(measure, form, *boxes) for form in ("pycocotools", *ours)}, args.rounds)
    peer = seconds["pycocotools"]
    return [
        Row(
            f"COCO evaluation by {form}, {frames} frames, {scene}",
            "pycocotools",
            f"{seconds[form]:.2f} s",
            f"{peer:.2f} s",
            peer / seconds[form],
            FORMS[form],
        )
        for form in ours
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, default=2000, help="labelled frames (2000)")
    args = parse(parser)
    print_rows("coco", [row for scene in SCENES for row in rows(scene, args)], frames=args.frames)


if __name__ == "__main__":
    main()
