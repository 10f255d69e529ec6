"""Tracks of a recording's labels: how fast a box moves, how long it has been there, when it was first found."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.box import is_large
from detector.evaluation.analysis.matches import Matches, found_labels
from detector.evaluation.coco_backend import FrameBoxes
from detector.evaluation.collector import Protocol, RecordingBoxes

__all__ = ["Reaction", "TrackFigures", "Waits", "find_waits", "summarize_waits", "track_figures"]

MAX_GAP_US = 1_500_000
"""A track that was not labelled for longer has no speed in between: the slowest labels of the field come at 1 Hz."""


class TrackFigures(NamedTuple):
    """Of labels; nan where it is not known.

    Args:
        speed: (M,) pixels a second.
        age: (M,) seconds since the first label of the box's track.
    """

    speed: np.ndarray
    age: np.ndarray


class Waits(NamedTuple):
    """Tracks of a recording.

    Args:
        tracks: how many were waited for.
        found: (n,) microseconds after which n of them were found.
    """

    tracks: int
    found: np.ndarray


@dataclass(frozen=True)
class Reaction:
    """How long after its first labelled box a track is detected, in event time. Not the time that computing takes.

    Args:
        tracks: looked at.
        found: share of them that was found at all; None without tracks.
        median_ms: of those found, the time from the first labelled box that counts to the end of the frame whose
            detection matches; None if none was found.
        p90_ms: nine of ten of those found were so by then.
    """

    tracks: int
    found: float | None
    median_ms: float | None
    p90_ms: float | None


def track_figures(all_labels: np.ndarray, labels: np.ndarray, delta_t: int) -> TrackFigures:
    """What the tracks of a recording say about some of its labels.

    The speed is that of the box's centre, from the last label of the track at least a frame before to the first at
    least a frame after: labels 16 ms apart would show their jitter. A track and class with two boxes at one time is no
    track: some datasets number none.

    Args:
        all_labels: (n,) every label of the recording, in network pixels.
        labels: (M,) rows of it.
        delta_t: duration of a frame in microseconds.
    """
    tracks, times, repeated = _keys(all_labels, all_labels)
    order = np.lexsort((times, tracks))
    tracks, times, rows = tracks[order], times[order], all_labels[order]
    centres = np.stack([rows["x"] + rows["w"] / 2, rows["y"] + rows["h"] / 2], axis=1).astype(np.float64)
    speed, age = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    bounds = np.flatnonzero(np.diff(tracks, prepend=-1, append=-1))
    for first, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if tracks[first] not in repeated:
            part = slice(first, stop)
            speed[part] = _speeds(times[part], centres[part], delta_t)
            age[part] = (times[part] - times[first]) / 1e6
    wanted, moments, _ = _keys(all_labels, labels)
    span = int(times.max(initial=0)) + 1
    place = np.searchsorted(tracks * span + times, wanted * span + moments).clip(max=max(len(tracks) - 1, 0))
    if not len(place) or not len(tracks):
        return TrackFigures(np.full(len(labels), np.nan), np.full(len(labels), np.nan))
    known = (tracks[place] == wanted) & (times[place] == moments)  # markers of empty frames are no labels
    return TrackFigures(np.where(known, speed[place], np.nan), np.where(known, age[place], np.nan))


def _keys(all_labels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Number of the track of each label, its time since the recording's first, and tracks with two boxes at a time."""
    numbers, inverse = np.unique(_identity(all_labels), return_inverse=True)
    start = all_labels["t"].min(initial=np.iinfo(np.int64).max)
    both = np.stack([inverse, all_labels["t"] - start], axis=1)
    pairs, counts = np.unique(both, axis=0, return_counts=True)
    repeated = set(pairs[counts > 1, 0].tolist())
    return np.searchsorted(numbers, _identity(labels)), (labels["t"] - start).astype(np.int64), repeated


def _identity(labels: np.ndarray) -> np.ndarray:
    return labels["class_id"].astype(np.int64) << 32 | labels["track_id"].astype(np.int64)


def _speeds(times: np.ndarray, centres: np.ndarray, delta_t: int) -> np.ndarray:
    """(n,) pixels a second along one track whose times increase; nan where it has no second label near enough."""
    last = len(times) - 1
    before = (np.searchsorted(times, times - delta_t, side="right") - 1).clip(min=0)
    after = np.searchsorted(times, times + delta_t).clip(max=last)
    seconds = (times[after] - times[before]) / 1e6
    way = np.hypot(*(centres[after] - centres[before]).T)
    known = (seconds > 0) & (np.maximum(times[after] - times, times - times[before]) <= MAX_GAP_US)
    return np.where(known, way / np.where(known, seconds, 1), np.nan)


def find_waits(
    recording: RecordingBoxes, boxes: FrameBoxes, matches: Matches, protocol: Protocol, score: float | None
) -> Waits:
    """How long the tracks of a recording waited for their first detection.

    Tracks that were there in the skipped start are left out: nobody knows how long they had been.

    Args:
        recording: its labels and detections.
        boxes: the same as evaluated.
        matches: of the same class.
        protocol: says which labels count.
        score: least score of a detection; None if there is none.
    """
    p, labels, first_t = protocol, recording.all_labels, recording.frames.first_t
    w, h = (labels[name].astype(np.float64) for name in "wh")
    large = (w > 0) & (h > 0) & is_large(w, h, p.min_box_diag, p.min_box_side)
    late = labels["t"] - first_t > p.skip_us
    counting, early = labels[large & late], labels[~late]
    _, _, repeated = _keys(labels, labels)
    numbers = np.unique(_identity(labels))
    left_out = {int(key) for key in _identity(early)} if p.skip_us > 0 else set()
    left_out |= {int(numbers[track]) for track in repeated}
    rows = recording.labels[boxes.label_row]
    onsets = _first_times(_identity(counting), counting["t"])
    hit = found_labels(boxes, matches, score)
    answers = recording.detections["t"][boxes.detection_row[matches.label[hit]]]
    found = _first_times(_identity(rows[hit]), answers)
    wanted = set(_identity(rows).tolist()) - left_out
    waits = [found[key] - onsets[key] for key in wanted if key in found]
    return Waits(len(wanted), np.array(waits, np.int64))


def _first_times(keys: np.ndarray, times: np.ndarray) -> dict[int, int]:
    order = np.argsort(-times, kind="stable")
    return dict(zip(keys[order].tolist(), times[order].tolist(), strict=True))


def summarize_waits(parts: list[Waits]) -> Reaction:
    """The reaction time over recordings."""
    tracks, found = sum(part.tracks for part in parts), np.concatenate([np.zeros(0), *(p.found for p in parts)])
    if not len(found):
        return Reaction(tracks, 0.0 if tracks else None, None, None)
    median, p90 = (float(value) / 1e3 for value in np.quantile(found, [0.5, 0.9]))
    return Reaction(tracks, len(found) / tracks, median, p90)
