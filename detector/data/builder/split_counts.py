"""Count the frames and labels of each split, and warn about splits without boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.data.layout import SPLITS
from detector.events.frames import Frames

__all__ = ["SplitCounts", "completely_outside", "count_split", "split_lines"]


@dataclass(frozen=True)
class SplitCounts:
    """Number of frames and labels in one tensor file.

    Args:
        split: train, val or test
        frames: number of frames
        times: number of distinct labelled times
        boxes: boxes of known classes that are at least partly on the sensor, without those of class "empty"
        frame_span: start of the first and end of the last frame in microseconds
        label_span: times of the first and last label of the whole recording in microseconds; None without labels
    """

    split: str
    frames: int
    times: int
    boxes: int
    frame_span: tuple[int, int]
    label_span: tuple[int, int] | None


def completely_outside(boxes: np.ndarray | Mapping[str, np.ndarray], sensor_size: tuple[int, int] | None) -> np.ndarray:
    """Return (M,) bool: True for each box with an area that has no pixel on the sensor.

    Args:
        boxes: (M,) structured boxes, or a dict from field name to column.
        sensor_size: height and width of the sensor in pixels. If None, all boxes count as inside.
    """
    area = (boxes["w"] > 0) & (boxes["h"] > 0)
    if sensor_size is None:
        return np.zeros_like(area)
    height, width = sensor_size
    x, y, w, h = (boxes[name].astype(np.float64) for name in "xywh")
    return area & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0))


def count_split(
    split: str, frames: Frames, labels: np.ndarray, names: Mapping[int, str], sensor_size: tuple[int, int]
) -> SplitCounts:
    """Count the labels of one tensor file.

    Args:
        split: train, val or test.
        frames: frames of the tensor file.
        labels: (M,) `BBOX_dtype` of the whole recording, sorted by t.
        names: dict from class id to name.
        sensor_size: height and width of the sensor in pixels.
    """
    inside = labels[frames.inside(labels["t"])]
    known = np.isin(inside["class_id"], [key for key, name in names.items() if name != "empty"])
    usable = known & (inside["w"] > 0) & (inside["h"] > 0) & ~completely_outside(inside, sensor_size)
    return SplitCounts(
        split,
        frames.num_frames,
        np.unique(inside["t"]).size,
        int(usable.sum()),
        (frames.first_t, frames.end),
        (int(labels["t"][0]), int(labels["t"][-1])) if labels.size else None,
    )


def split_lines(parts: Sequence[SplitCounts]) -> list[str]:
    """Return one line of text per split with its numbers of files, frames and labels, and a warning if it has no box.

    Args:
        parts: counts of all tensor files, in any order.
    """
    lines, warnings = [], []
    for split in SPLITS:
        files = [part for part in parts if part.split == split]
        if not files:
            continue
        frames, times, boxes = (sum(getattr(part, name) for part in files) for name in ("frames", "times", "boxes"))
        lines.append(
            f"{split}: {_number(len(files), 'tensor file')}, {_number(frames, 'frame')}, "
            f"{_number(times, 'labelled time')}, {boxes:,} box{'es' * (boxes != 1)}"
        )
        if not boxes:
            warnings.append(_no_boxes(files, times))
    return [*lines, *warnings]


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _no_boxes(files: Sequence[SplitCounts], times: int) -> str:
    """Return the warning for a split whose tensor files have no boxes at `times` labelled times, with likely causes."""
    first = next((part for part in files if part.label_span is not None), files[0])
    found = f"warning: {first.split} has no box of a known class on the sensor"
    if times:
        return f"{found} at its labelled times: check the label map and the positions of the boxes (`evforge check`)"
    if first.label_span is None:
        return f"{found}: its label files contain no labels"
    spans = [f"{start / 1e6:.3f} to {end / 1e6:.3f} s" for start, end in (first.label_span, first.frame_span)]
    return (
        f"{found}: the labels{' of the first file' * (len(files) > 1)} are at {spans[0]}, the frames at {spans[1]}; "
        f"likely causes: the cut --{first.split}, the frame rate --label_fps of numbered images, --label_time_unit or "
        "--label_offset"
    )
