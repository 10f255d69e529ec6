"""Sketch of the content of a file: a small sample of hashes by which copies are found after a conversion or a cut.

The sketch of a set keeps the smallest hashes of its elements (bottom-k sketch, Cohen and Kaplan 2007). Two
sketches give an estimate of the share of the smaller set that is contained in the other one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Sketch", "SketchBuilder", "box_hashes", "event_hashes", "frame_hashes", "similar_pairs"]

SIZE = 2048
"""Number of hashes that are kept."""

MIN_COMMON = 10
"""Smallest number of common hashes of two files that are compared."""

RUN = 6
"""Number of differences between consecutive events that form one element."""

MIXERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""Constants of the SplitMix64 generator."""


@dataclass(frozen=True)
class Sketch:
    """The smallest hashes of a set.

    Args:
        hashes: (k,) uint64, sorted and distinct, at most 2048
        complete: whether these are the hashes of all elements
    """

    hashes: np.ndarray
    complete: bool

    def common(self, other: "Sketch") -> tuple[float, int]:
        """Estimate the share of common elements.

        Returns:
            Share of the elements of the smaller set that are in both, and the number of hashes it is based on.
        """
        limits = [part.hashes[-1] for part in (self, other) if not part.complete and part.hashes.size]
        parts = [part.hashes for part in (self, other)]
        if limits:  # hashes above the smallest limit are known of one set only
            parts = [part[part <= min(limits)] for part in parts]
        smaller = min(part.size for part in parts)
        return (np.intersect1d(parts[0], parts[1], assume_unique=True).size / smaller if smaller else 0.0), smaller


class SketchBuilder:
    """Collects hashes and keeps the smallest ones."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.uint64)
        self._complete = True

    def add(self, hashes: np.ndarray) -> None:
        """Add (N,) uint64 hashes."""
        if not self._complete:
            hashes = hashes[hashes < self._hashes[-1]]
        joined = np.unique(np.concatenate([self._hashes, hashes]))
        self._complete = self._complete and joined.size <= SIZE
        self._hashes = joined[:SIZE]

    def build(self) -> Sketch:
        """Return the sketch."""
        return Sketch(self._hashes, self._complete)


def similar_pairs(sketches: Sequence[Sketch | None]) -> list[tuple[int, int, float, int]]:
    """Find sketches that have hashes in common, without a comparison of all pairs.

    Of several copies, each one is paired with the next one only.

    Args:
        sketches: one sketch per file, None for files without one.

    Returns:
        For each pair with at least ten common hashes, the indices of both sketches and the result of `Sketch.common`.
    """
    known = [sketch or Sketch(np.empty(0, np.uint64), True) for sketch in sketches]
    hashes = np.concatenate([np.empty(0, np.uint64), *(sketch.hashes for sketch in known)])
    owners = np.repeat(np.arange(len(known)), [sketch.hashes.size for sketch in known])
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    pairs = np.stack([owners[order][:-1][same], owners[order][1:][same]], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    chosen = [(int(first), int(second)) for first, second in found[counts >= MIN_COMMON]]
    return [(first, second, *known[first].common(known[second])) for first, second in chosen]


def event_hashes(keys: np.ndarray) -> np.ndarray:
    """Hash short runs of consecutive events.

    The hashes do not depend on a constant time offset, on the order of simultaneous events, or on where a recording
    was cut.

    Args:
        keys: (N,) int64, sorted; time, y, x and polarity of an event as one number, time in the highest bits.

    Returns:
        (N - 6,) uint64, or an empty array.
    """
    steps = np.diff(keys).astype(np.uint64)
    count = steps.size - RUN + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    total = np.zeros(count, np.uint64)
    for place in range(RUN):
        total = total * np.uint64(MIXERS[0]) + steps[place : place + count]
    return _mix(total)


def frame_hashes(frame: np.ndarray) -> np.ndarray:
    """Hash one frame of a tensor file. Return (1,) uint64, or an empty array for a frame of equal values."""
    flat = np.ascontiguousarray(frame).reshape(-1)
    if (flat == flat[0]).all():
        return np.empty(0, np.uint64)
    places = np.flatnonzero(flat).astype(np.uint64)
    values = flat[flat != 0].astype(np.float32).view(np.uint32).astype(np.uint64)
    return _mix(np.array([_mix((places << np.uint64(32)) + values).sum(dtype=np.uint64)]))


def box_hashes(labels: np.ndarray) -> np.ndarray:
    """Hash the position, size and class of boxes, but not their times. Return (M,) uint64."""
    total = np.zeros(labels.size, np.uint64)
    for name in ("x", "y", "w", "h"):
        total = _mix(total + np.round(labels[name].astype(np.float64) * 16).astype(np.int64).astype(np.uint64))
    return _mix(total + labels["class_id"].astype(np.uint64))


def _mix(values: np.ndarray) -> np.ndarray:
    """Hash each number (SplitMix64)."""
    for shift, mixer in zip((30, 27), MIXERS, strict=True):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(mixer)
    return values ^ (values >> np.uint64(31))
