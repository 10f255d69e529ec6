"""Find boxes that stand still although they should move."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from detector.data.check.alignment.activity import Activity
from detector.data.check.evidence import PixelMap
from detector.data.check.finding import Finding

__all__ = ["Rests", "check_standing", "find_rests"]

MIN_TIMES, MIN_FILE_US = 10, 3_000_000
"""A file in which (nearly) all boxes stand still is reported from 10 labelled times over 3 s."""

MIN_BOX_US = 10_000_000
"""A single box that stands still is reported from 10 s, if the camera moves and there are many events in the box."""

MIN_SHARE = 0.9
"""Share of the boxes of a file that stand still, from which all boxes of the file are considered as standing still."""

TOLERANCE = 0.3
"""Largest distance in pixels of x, y, w and h from their mean in a box that stands still."""

MAX_MISSING = 2
"""Number of consecutive labelled times at which a box that stands still may be missing."""

MAX_PER_TIME = 200
"""Number of boxes of a labelled time, from the left, that are compared with earlier ones."""

MOVING_SHARE, MOMENT_US = 0.35, 400_000
"""Share of the parts of the sensor with events within 0.4 s, from which the camera is considered as moving.

It is 0.10 in a recording by a fixed camera, 0.31 in simulated crowds, and 0.38 to 0.65 with a panning camera.
"""

NUM_MOMENTS = 20

BLOCK = 8
"""Height and width in pixels of the parts of the sensor in which events are counted."""

QUIET, SIGMAS, MAX_NOISE_HZ = 0.05, 1.645, 1.0
"""Share of the parts that have only noise, the same as a number of standard deviations, and the largest noise rate.

The noise rate is a rate of each pixel in events per second.
"""

CLASS_DISTANCE = 1e6


@dataclass(frozen=True)
class Rests:
    """Boxes that stand still for a time: consecutive boxes of one class, one position and one size.

    Args:
        rows: (R,) index of the first box of each rest.
        num_times: (R,) number of labelled times.
        begin: (R,) first labelled time in microseconds.
        end: (R,) last labelled time in microseconds.
        of_box: (M,) index of the rest to which each box belongs; -1 for boxes that move.
        num_boxes: number of boxes that were compared.
    """

    rows: np.ndarray
    num_times: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    of_box: np.ndarray
    num_boxes: int


def find_rests(labels: np.ndarray) -> Rests:
    """Find boxes that stand still for at least 3 s and 10 labelled times, without regard to their track ids.

    1. For each labelled time, compare the boxes with the means of the chains of earlier boxes.
    2. Add a box to the nearest chain of its class within the tolerance; otherwise, it starts a chain.
    3. A chain ends if more than two labelled times have no box of it.

    Args:
        labels: `BBOX_dtype` sorted by t.
    """
    columns = [labels[name].astype(np.float64) for name in "xywh"]
    values = np.column_stack([*columns, labels["class_id"] * CLASS_DISTANCE])
    chains = np.full(labels.size, -1)
    live, means, sizes, seen = np.empty(0, np.int64), np.empty((0, 5)), np.empty(0), np.empty(0, np.int64)
    num_chains = 0
    starts = np.unique(labels["t"], return_index=True)[1]
    for step, (first, stop) in enumerate(pairwise([*starts, labels.size])):
        rows = np.arange(first, stop)
        if rows.size > MAX_PER_TIME:
            rows = rows[np.argsort(values[rows, 0], kind="stable")[:MAX_PER_TIME]]
        if live.size:
            distances = np.abs(values[rows, None] - means[None]).max(axis=2)
            nearest = distances.argmin(axis=1)
            close = np.flatnonzero(distances[np.arange(rows.size), nearest] <= TOLERANCE)
            found, which = np.unique(nearest[close], return_index=True)
            added = close[which]
            chains[rows[added]] = live[found]
            sizes[found] += 1
            means[found] += (values[rows[added]] - means[found]) / sizes[found, None]
            seen[found] = step
        new = rows[chains[rows] < 0]
        chains[new] = num_chains + np.arange(new.size)
        num_chains += new.size
        kept = seen >= step - MAX_MISSING
        live, means = np.append(live[kept], chains[new]), np.concatenate([means[kept], values[new]])
        sizes, seen = np.append(sizes[kept], np.ones(new.size)), np.append(seen[kept], np.full(new.size, step))
    return _lasting(labels, chains)


def _lasting(labels: np.ndarray, chains: np.ndarray) -> Rests:
    """Choose the chains that last long enough."""
    compared = np.flatnonzero(chains >= 0)
    _, firsts, of_compared, counts = np.unique(
        chains[compared], return_index=True, return_inverse=True, return_counts=True
    )
    of_compared = of_compared.reshape(-1)
    begin = labels["t"][compared[firsts]].astype(np.int64)
    end = begin.copy()
    np.maximum.at(end, of_compared, labels["t"][compared])
    chosen = (counts >= MIN_TIMES) & (end - begin >= MIN_FILE_US)
    index = np.where(chosen, np.cumsum(chosen) - 1, -1)
    of_box = np.full(labels.size, -1)
    of_box[compared] = index[of_compared]
    rows = compared[firsts[chosen]]
    return Rests(rows, counts[chosen], begin[chosen], end[chosen], of_box, int(compared.size))


def check_standing(
    path: Path, labels: np.ndarray, activity: Activity | None, rests: Rests | None = None
) -> Iterator[Finding]:
    """Yield a finding if all boxes of a file stand still, or a warning if some do while the camera moves.

    A parked car in front of a fixed camera may have a box that stands still, but not in front of a moving one.

    Args:
        path: path of the label file.
        labels: `BBOX_dtype` sorted by t, without frame labels of class "empty".
        activity: counts of the events of the file, None if they are not known.
        rests: result of `find_rests`, if it is known.
    """
    rests = find_rests(labels) if rests is None else rests
    if not rests.rows.size:
        return
    boxes, duration = labels[rests.rows], rests.end - rests.begin
    spans = [(box, int(start), int(end)) for box, start, end in zip(boxes, rests.begin, rests.end, strict=True)]
    moves = activity is not None and _camera_moves(activity)
    if rests.num_times.sum() >= MIN_SHARE * rests.num_boxes:
        yield _all_still(path, boxes, rests.num_times, duration, activity, moves)
    elif activity is not None and moves:
        long = np.flatnonzero(duration >= MIN_BOX_US)
        among = [rest for rest in long if _is_among_events(*spans[rest], activity)]
        if among:
            yield _some_still(path, boxes[among], rests.num_times[among], duration[among], activity)


def _camera_moves(activity: Activity) -> bool:
    """Return whether events are spread over the frame at most times. Noise, which is everywhere, does not count."""
    moments = np.linspace(activity.start, activity.end, NUM_MOMENTS + 2)[1:-1]
    side = max(1, round(BLOCK / activity.cell[0]))
    dense = MAX_NOISE_HZ * MOMENT_US / 1e6 * (side * activity.cell[0]) * (side * activity.cell[1])
    shares = []
    for moment in moments:
        counts = _pool(activity.image(int(moment), MOMENT_US), side)
        # The square root of a Poisson number has a standard deviation of 0.5.
        noise = (np.sqrt(np.quantile(counts, QUIET)) + SIGMAS / 2) ** 2
        shares.append(np.mean((counts > noise + 4 * np.sqrt(noise)) | (counts > dense)))
    return bool(np.median(shares) >= MOVING_SHARE)


def _pool(counts: np.ndarray, side: int) -> np.ndarray:
    """Sum up squares of side x side cells. Incomplete squares are left out, unless there are no others."""
    height, width = (max(1, length // side) for length in counts.shape)
    counts = counts[: height * side, : width * side]
    rows = np.add.reduceat(counts, np.arange(0, len(counts), side)[:height], axis=0)
    return np.add.reduceat(rows, np.arange(0, counts.shape[1], side)[:width], axis=1)


def _is_among_events(box: np.ndarray, begin: int, end: int, activity: Activity) -> bool:
    """Return whether a box has, while it is there, at least the events per area of the whole frame."""
    height, width = activity.sensor_size
    begin, end = max(begin, activity.start), min(end, activity.end)
    x, y = float(box["x"]), float(box["y"])
    inner = np.clip([x, y, x + float(box["w"]), y + float(box["h"])], 0, (width, height, width, height))
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    if end - begin < MIN_FILE_US / 2 or area <= 0:
        return False
    corners = np.array([inner, [0, 0, width, height]])
    inside, whole = activity.count(corners, np.full(2, (begin + end) / 2), end - begin)
    return bool(whole > 0 and inside / area >= whole / (height * width))


def _all_still(
    path: Path, boxes: np.ndarray, num_times: np.ndarray, lasting: np.ndarray, activity: Activity | None, moves: bool
) -> Finding:
    """Return the finding for a file whose boxes stand still: an error if the camera moves.

    Args:
        path: path of the label file.
        boxes: one box for each position.
        num_times: number of labelled times of each position.
        lasting: duration of each position in microseconds.
        activity: counts of the events of the file, None if they are not known.
        moves: whether the camera moves.
    """
    found = f"{num_times.sum()} boxes have {_places(boxes)}, for up to {lasting.max() / 1e6:.1f} s"
    copied = "the labels were probably copied from one frame to all frames: label the file again, or leave it out"
    return Finding(
        "error" if moves else "warning",
        path,
        "all boxes stand still",
        found,
        "boxes that follow their objects",
        copied if moves else f"right if all labelled objects are at rest; otherwise, {copied}",
        _figure("Boxes that never move", boxes, activity),
    )


def _some_still(
    path: Path, boxes: np.ndarray, num_times: np.ndarray, lasting: np.ndarray, activity: Activity
) -> Finding:
    first = boxes[0]
    found = (
        f"{_places(boxes)} with {num_times.sum()} boxes, first x {first['x']:g}, y {first['y']:g}, class_id "
        f"{first['class_id']}: {num_times[0]} times over {lasting[0] / 1e6:.1f} s, although the camera moves"
    )
    return Finding(
        "warning",
        path,
        "box stands still",
        found,
        "boxes that move with the image",
        "check whether these boxes follow their objects",
        _figure("Boxes that never move", boxes, activity),
    )


def _places(boxes: np.ndarray) -> str:
    return "one position and size" if boxes.size == 1 else f"one of {boxes.size} positions and sizes"


def _figure(title: str, boxes: np.ndarray, activity: Activity | None) -> tuple[PixelMap, ...]:
    if activity is None:
        return ()
    duration = activity.end - activity.start
    image = activity.image(activity.start + duration // 2, duration)
    xywh = np.stack([boxes[name].astype(np.float64) for name in "xywh"], axis=1)
    return (PixelMap(f"{title}, on all events of {duration / 1e6:.0f} s", image, activity.sensor_size, {"box": xywh}),)
