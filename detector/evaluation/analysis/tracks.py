"""Tracks of labels: speed and age of boxes, and the time until a track is first detected."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.evaluation.analysis.matches import Matches, found_labels
from detector.evaluation.coco_backend import EvaluatedBoxes
from detector.evaluation.collector import Protocol, RecordingBoxes
from detector.utils.corners import is_large

__all__ = ["Reaction", "TrackMotion", "Waits", "find_waits", "summarize_waits", "track_motion"]

MAX_GAP_US = 1_500_000
"""Longest time in microseconds between a label and the other labels of the track from which its speed is computed.

Labels at the lowest rate, 1 Hz, are closer together than this.
"""


class TrackMotion(NamedTuple):
    """Speed and age of labelled boxes. Unknown values are NaN.

    Args:
        speed: (M,) pixels per second.
        age: (M,) seconds since the first label of the box's track.
    """

    speed: np.ndarray
    age: np.ndarray


class Waits(NamedTuple):
    """Reaction times of a recording: times from the first label of a track to its first detection.

    Args:
        tracks: number of tracks that were evaluated.
        found: (n,) reaction times in microseconds of the n tracks that were detected.
    """

    tracks: int
    found: np.ndarray


@dataclass(frozen=True)
class Reaction:
    """Reaction time: the time from the first label of a track to its first detection, over all tracks.

    The times are those of the recording, so computing time is not included. The time of a track starts at its first
    label that is large enough for the evaluation, and stops at the end of the first frame with a matching detection.

    Args:
        tracks: number of tracks.
        found: share of the tracks that were detected; None without tracks.
        median_ms: median time of the tracks that were detected, in milliseconds; None if no track was detected.
        p90_ms: 90th percentile of these times in milliseconds; None if no track was detected.
    """

    tracks: int
    found: float | None
    median_ms: float | None
    p90_ms: float | None


def track_motion(all_labels: np.ndarray, labels: np.ndarray, delta_t: int) -> TrackMotion:
    """Compute the speed and age of labels from the tracks of a recording.

    The speed of a box is the speed of its centre between two labels of the track: the last label that is at least one
    frame earlier, and the first label that is at least one frame later. Closer labels, such as 16 ms apart, would
    show the jitter of the labels. Some datasets do not number tracks, so all boxes of a class look like one track.
    Therefore speed and age are NaN for all boxes of a track that has two boxes at the same time.

    Args:
        all_labels: (n,) all labels of the recording, in network pixels.
        labels: (M,) labels whose speed and age are computed, a subset of `all_labels`.
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
    wanted, wanted_times, _ = _keys(all_labels, labels)
    span = int(times.max(initial=0)) + 1
    index = np.searchsorted(tracks * span + times, wanted * span + wanted_times).clip(max=max(len(tracks) - 1, 0))
    if not len(index) or not len(tracks):
        return TrackMotion(np.full(len(labels), np.nan), np.full(len(labels), np.nan))
    known = (tracks[index] == wanted) & (times[index] == wanted_times)  # markers of empty frames are not labels
    return TrackMotion(np.where(known, speed[index], np.nan), np.where(known, age[index], np.nan))


def _keys(all_labels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Assign a number to each track (class id and track id) of a recording.

    Returns:
        (M,) track numbers of `labels`; (M,) times of `labels` in microseconds since the first time in `all_labels`;
        and the set of the numbers of tracks that have two boxes at the same time.
    """
    numbers, inverse = np.unique(_identity(all_labels), return_inverse=True)
    start = all_labels["t"].min(initial=np.iinfo(np.int64).max)
    both = np.stack([inverse, all_labels["t"] - start], axis=1)
    pairs, counts = np.unique(both, axis=0, return_counts=True)
    repeated = set(pairs[counts > 1, 0].tolist())
    return np.searchsorted(numbers, _identity(labels)), (labels["t"] - start).astype(np.int64), repeated


def _identity(labels: np.ndarray) -> np.ndarray:
    return labels["class_id"].astype(np.int64) << 32 | labels["track_id"].astype(np.int64)


def _speeds(times: np.ndarray, centres: np.ndarray, delta_t: int) -> np.ndarray:
    """Compute the (n,) speeds of the n labels of a track in pixels per second, see `track_motion`.

    The speed of a label is NaN if one of the two labels that define it is more than `MAX_GAP_US` (1.5 s) away.
    """
    last = len(times) - 1
    before = (np.searchsorted(times, times - delta_t, side="right") - 1).clip(min=0)
    after = np.searchsorted(times, times + delta_t).clip(max=last)
    seconds = (times[after] - times[before]) / 1e6
    distance = np.hypot(*(centres[after] - centres[before]).T)
    known = (seconds > 0) & (np.maximum(times[after] - times, times - times[before]) <= MAX_GAP_US)
    return np.where(known, distance / np.where(known, seconds, 1), np.nan)


def find_waits(
    recording: RecordingBoxes, boxes: EvaluatedBoxes, matches: Matches, protocol: Protocol, score: float | None
) -> Waits:
    """Compute the reaction times of the tracks of a recording.

    Two kinds of tracks are left out: tracks with labels in the skipped start of the recording (`protocol.skip_us`), and
    tracks with two boxes at the same time, because their track ids are not unique.

    Args:
        recording: all labels and detections of the recording.
        boxes: the labels and detections that are evaluated.
        matches: matches between labels and detections of the same class.
        protocol: settings of the evaluation.
        score: detections with a lower score are ignored; if None, all detections are ignored.
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
    rows = recording.labels[boxes.labels.row]
    onsets = _first_times(_identity(counting), counting["t"])
    hit = found_labels(boxes, matches, score)
    answers = recording.detections["t"][boxes.detections.row[matches.label[hit]]]
    found = _first_times(_identity(rows[hit]), answers)
    wanted = set(_identity(rows).tolist()) - left_out
    waits = [found[key] - onsets[key] for key in wanted if key in found]
    return Waits(len(wanted), np.array(waits, np.int64))


def _first_times(keys: np.ndarray, times: np.ndarray) -> dict[int, int]:
    order = np.argsort(-times, kind="stable")
    return dict(zip(keys[order].tolist(), times[order].tolist(), strict=True))


def summarize_waits(parts: list[Waits]) -> Reaction:
    """Summarize the reaction times of all recordings."""
    tracks, found = sum(part.tracks for part in parts), np.concatenate([np.zeros(0), *(p.found for p in parts)])
    if not len(found):
        return Reaction(tracks, 0.0 if tracks else None, None, None)
    median, p90 = (float(value) / 1e3 for value in np.quantile(found, [0.5, 0.9]))
    return Reaction(tracks, len(found) / tracks, median, p90)
