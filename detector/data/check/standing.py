"""Find boxes that stand still although they should move."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.data.check.alignment.activity import Activity
from detector.data.check.evidence import PixelMap
from detector.data.check.finding import Finding

__all__ = ["check_standing"]

MIN_TIMES, MIN_FILE_US = 10, 3_000_000
"""A file in which (nearly) all boxes stand still is reported from 10 labelled times over 3 s."""

MIN_BOX_US = 10_000_000
"""A single box that stands still is reported from 10 s, if the camera moves and there are many events in the box."""

MIN_SHARE = 0.95
"""Share of the boxes of a file that stand still, from which all boxes of the file are considered as standing still."""

MIN_PRESENCE = 0.8
"""Share of the labelled times, from the first to the last time of a box, at which a box that stands still exists.

It is low if objects come back to the same place.
"""

MANY_EVENTS = 1.5
"""Events per area in a box, relative to the whole frame, from which the object in the box cannot be at rest."""

MOVING_SHARE, SECOND = 0.4, 1_000_000
"""Share of the cells with events within a second from which the camera is considered as moving.

It is 0.11 and 0.28 in two recordings by a fixed camera, and 0.52 to 0.88 in simulations with a panning camera.
"""

NUM_MOMENTS = 20

QUIET, MAX_NOISE_HZ = 0.05, 1.0
"""Share of the cells that have only noise, and rate of a pixel in events per second above which it is not noise."""

FRACTIONS = 100
"""Boxes are equal if they are equal after rounding to 1 / 100 pixel."""


def check_standing(path: Path, labels: np.ndarray, activity: Activity | None) -> Iterator[Finding]:
    """Yield a finding if all boxes of a file stand still, or a warning if some do while the camera moves.

    A parked car in front of a fixed camera may have a box that stands still, but not in front of a moving one.

    Args:
        path: path of the label file.
        labels: `BBOX_dtype` without frame labels of class "empty".
        activity: counts of the events of the file, None if they are not known.
    """
    if not labels.size:
        return
    geometry = np.stack([np.round(labels[name].astype(np.float64) * FRACTIONS) for name in "xywh"], axis=1)
    keys = np.column_stack([geometry, labels["class_id"]])
    _, firsts, places = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    places = places.reshape(-1)
    pairs = np.unique(np.column_stack([places, labels["t"]]), axis=0)
    num_times = np.bincount(pairs[:, 0], minlength=firsts.size)
    begin, end = np.full(firsts.size, np.iinfo(np.int64).max), np.full(firsts.size, np.iinfo(np.int64).min)
    np.minimum.at(begin, places, labels["t"])
    np.maximum.at(end, places, labels["t"])
    known = np.unique(labels["t"])
    possible = np.searchsorted(known, end, "right") - np.searchsorted(known, begin)
    steady = (num_times >= MIN_TIMES) & (num_times >= MIN_PRESENCE * possible)
    lasting = steady & (end - begin >= MIN_FILE_US)
    if num_times[lasting].sum() >= MIN_SHARE * num_times.sum():
        rows = np.flatnonzero(lasting)
        spans = [(labels[firsts[row]], int(begin[row]), int(end[row])) for row in rows]
        busy = activity is not None and (
            _camera_moves(activity) or any(_is_among_events(*span, activity, MANY_EVENTS) for span in spans)
        )
        yield _all_still(path, labels[firsts[rows]], num_times[rows], (end - begin)[rows], activity, busy)
    elif activity is not None and _camera_moves(activity):
        long = np.flatnonzero(steady & (end - begin >= MIN_BOX_US))
        among = [row for row in long if _is_among_events(labels[firsts[row]], int(begin[row]), int(end[row]), activity)]
        if among:
            yield _some_still(path, labels[firsts[among]], num_times[among], (end - begin)[among], activity)


def _camera_moves(activity: Activity) -> bool:
    """Return whether events are spread over the frame at most times. Noise, which is everywhere, does not count."""
    moments = np.linspace(activity.start, activity.end, NUM_MOMENTS + 2)[1:-1]
    dense = MAX_NOISE_HZ * activity.cell[0] * activity.cell[1]
    shares = []
    for moment in moments:
        counts = activity.image(int(moment), SECOND)
        noise = np.quantile(counts, QUIET)
        shares.append(np.mean((counts > noise + 4 * np.sqrt(noise)) | (counts > dense)))
    return bool(np.median(shares) >= MOVING_SHARE)


def _is_among_events(box: np.ndarray, begin: int, end: int, activity: Activity, factor: float = 1.0) -> bool:
    """Return whether a box has, while it is there, at least `factor` times the events per area of the whole frame."""
    height, width = activity.sensor_size
    begin, end = max(begin, activity.start), min(end, activity.end)
    x, y = float(box["x"]), float(box["y"])
    inner = np.clip([x, y, x + float(box["w"]), y + float(box["h"])], 0, (width, height, width, height))
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    if end - begin < MIN_FILE_US / 2 or area <= 0:
        return False
    corners = np.array([inner, [0, 0, width, height]])
    inside, whole = activity.count(corners, np.full(2, (begin + end) / 2), end - begin)
    return bool(whole > 0 and inside / area >= factor * whole / (height * width))


def _all_still(
    path: Path, boxes: np.ndarray, num_times: np.ndarray, lasting: np.ndarray, activity: Activity | None, busy: bool
) -> Finding:
    """Return the finding for a file whose boxes stand still: an error if objects at rest cannot be the reason.

    Args:
        path: path of the label file.
        boxes: one box for each position.
        num_times: number of labelled times of each position.
        lasting: duration of each position in microseconds.
        activity: counts of the events of the file, None if they are not known.
        busy: whether the camera moves or there are many events in a box.
    """
    found = f"{num_times.sum()} boxes have {_places(boxes)}, for up to {lasting.max() / 1e6:.1f} s"
    copied = "the labels were probably copied from one frame to all frames: label the file again, or leave it out"
    return Finding(
        "error" if busy else "warning",
        path,
        "all boxes stand still",
        found,
        "boxes that follow their objects",
        copied if busy else f"right if all labelled objects are at rest; otherwise, {copied}",
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
