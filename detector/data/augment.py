"""Random augmentation of a sequence of frames.

All frames of a sequence have the same flip and zoom, so that the recurrent state stays valid.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from detector.preprocess.representation import Representation
from detector.utils.compiled import compiled
from detector.utils.corners import crop_corners

__all__ = ["Augmentation", "Rect", "draw_augmentation"]

FLIP_PROBABILITY = 0.5
ZOOM_PROBABILITY = 0.5
ZOOM_RANGE = (0.8, 1.5)
MIN_VISIBLE = 0.25
"""A box is dropped if less than this share of its area is inside the frame after a zoom."""

DROPOUT_PROBABILITY = 0.5
KEEP_RANGE = (0.7, 1.0)
"""Smallest and largest share of the events that an event dropout keeps."""

BLOCK = 32
"""Number of values that are compared with 0 together. Most blocks contain only zeros."""

KEY_STEP, MIX_1, MIX_2 = (np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
SHIFT_1, SHIFT_2, SHIFT_3, TO_53_BITS = (np.uint64(value) for value in (30, 27, 31, 11))


@dataclass(frozen=True)
class Rect:
    """A rectangle in whole pixels: x is the left column, y the top row, w the width, h the height."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a sequence of frames, already drawn: an event dropout, then a zoom, then a flip.

    Args:
        height: rows of a frame.
        width: columns of a frame.
        source: the part of the input frame that is kept.
        target: the part of the output frame, before the flip, to which `source` is scaled. Pixels outside it are 0.
        flip: whether to swap left and right.
        keep: probability with which the dropout keeps an event.
        key: seed of the event dropout.
    """

    height: int
    width: int
    source: Rect
    target: Rect
    flip: bool
    keep: float = 1.0
    key: int = 0

    def frame(
        self, frame: np.ndarray, out: np.ndarray, number: int, representation: Representation, backwards: bool = False
    ) -> None:
        """Apply the augmentation to a frame.

        The zoom takes the nearest pixel and does not interpolate, so that event counts stay whole numbers. If values
        are event counts, the dropout decides for each event separately; a saturated count is treated like the true
        number of events. If values are not event counts, the dropout keeps a value or sets it to 0.

        Args:
            frame: (C, H, W), contiguous; the dropout changes it in place.
            out: (C, H, W) of the same type, contiguous; overwritten with the result.
            number: index of the frame in its file; the same number gives the same dropout.
            representation: states whether the values are event counts and whether they are signed.
            backwards: whether to reverse time within the frame. This reverses the order of the channels and negates
                signed values.
        """
        bits = f"u{frame.itemsize}"  # as integers: compiled loops do not support float16, and copies need no arithmetic
        if self.keep < 1:
            counts = representation.counts and frame.dtype.kind == "u"
            _drop(frame.reshape(-1).view(bits), math.log(self.keep), self._state(number), counts)
        if self.flip or self.source != self.target:
            rows, columns = self._picked
            if out[0].size > len(rows) * len(columns):
                out[:] = 0
            _pick(frame.view(bits), out.view(bits), rows, columns, self.target.y, self._left, backwards)
        else:
            out[:] = frame[::-1] if backwards else frame
        if backwards and representation.signed:
            np.negative(out, out=out)

    @cached_property
    def _picked(self) -> tuple[np.ndarray, np.ndarray]:
        """Two index arrays: the input row of each row of the target rectangle, and the input column of each column."""
        rows = self.source.y + _nearest(self.source.h, self.target.h)
        columns = self.source.x + _nearest(self.source.w, self.target.w)
        return rows, columns[::-1].copy() if self.flip else columns

    @property
    def _left(self) -> int:
        """First column of the target rectangle, after the flip."""
        return self.width - self.target.x - self.target.w if self.flip else self.target.x

    def _state(self, number: int) -> np.uint64:
        return np.uint64((self.key + number * int(KEY_STEP)) % 2**64)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Apply the zoom and the flip to boxes, crop the boxes to the frame, and drop boxes that are mostly outside.

        Args:
            boxes: (M, >= 4) x1, y1, x2, y2 in pixels, then further columns, which are not changed.

        Returns:
            (M', >= 4) array of the same type. A box is dropped if less than the share `MIN_VISIBLE` of its area is
            inside the frame.
        """
        moved = boxes.copy()
        moved[:, [0, 2]] = (boxes[:, [0, 2]] - self.source.x) * (self.target.w / self.source.w) + self.target.x
        moved[:, [1, 3]] = (boxes[:, [1, 3]] - self.source.y) * (self.target.h / self.source.h) + self.target.y
        if self.flip:
            moved[:, [0, 2]] = self.width - moved[:, [2, 0]]
        cropped = crop_corners(moved, self.height, self.width)
        return cropped[_areas(cropped) >= MIN_VISIBLE * _areas(moved)]


def draw_augmentation(rng: np.random.Generator, height: int, width: int) -> Augmentation:
    """Draw a random augmentation: a flip, a zoom and an event dropout, each with probability 0.5.

    The zoom factor is log-uniform from 0.8 (smaller) to 1.5 (larger), and the position of the zoom is random.

    Args:
        rng: random number generator.
        height: rows of a frame.
        width: columns of a frame.
    """
    flip = bool(rng.random() < FLIP_PROBABILITY)
    zooms = rng.random() < ZOOM_PROBABILITY
    scale = math.exp(rng.uniform(*np.log(ZOOM_RANGE))) if zooms else 1.0
    whole = Rect(0, 0, width, height)
    source = _place(rng, height, width, 1 / scale) if scale >= 1 else whole
    target = _place(rng, height, width, scale) if scale < 1 else whole
    keep = float(rng.uniform(*KEEP_RANGE)) if rng.random() < DROPOUT_PROBABILITY else 1.0
    return Augmentation(height, width, source, target, flip, keep, int(rng.integers(2**63)))


def _place(rng: np.random.Generator, height: int, width: int, fraction: float) -> Rect:
    """Return a rectangle at a random position in the frame, with `fraction` of the frame's height and width."""
    h, w = max(1, round(height * fraction)), max(1, round(width * fraction))
    return Rect(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _nearest(source: int, target: int) -> np.ndarray:
    """For a line of `source` pixels resized to `target` pixels, return the source pixel of each target pixel."""
    return ((2 * np.arange(target) + 1) * source // (2 * target)).astype(np.uint32)


@compiled
def _drop(values: np.ndarray, log_keep: float, state: np.uint64, counts: bool) -> None:
    """Drop each event with probability 1 - exp(log_keep), in place.

    If `counts` is True, values are numbers of events and become smaller. Otherwise each non-zero value is one event and
    becomes 0. The loop draws how many events are kept until the next one is dropped, so most events need no draw.
    """
    state = _mixed(state)
    staying = _draw_run(state, log_keep)
    for start in range(0, values.size, BLOCK):
        # Step 1: skip a block without events.
        stop = min(start + BLOCK, values.size)
        found = values[start]
        for i in range(start + 1, stop):
            found |= values[i]
        if found == 0:
            continue
        for i in range(start, stop):
            # Step 2: get the number of events of a value; a value that is not a count is one event.
            events = np.int64(values[i])
            if not counts and events > 1:
                events = np.int64(1)
            # Step 3: keep all of them if the current run of kept events is long enough.
            if events <= staying:
                staying -= events
                continue
            # Step 4: drop the event after each run of kept events and draw the next run, for all events of the value.
            lost = 0
            while events > staying:
                events -= staying + 1
                lost += 1
                state += KEY_STEP
                staying = _draw_run(state, log_keep)
            staying -= events
            values[i] = values[i] - lost if counts else 0


@compiled
def _draw_run(state: np.uint64, log_keep: float) -> np.int64:
    """Draw the number of events that are kept before the next one is dropped, from a geometric distribution."""
    uniform = (np.float64(_mixed(state) >> TO_53_BITS) + 1) / 2.0**53
    return np.int64(min(math.log(uniform) / log_keep, 2.0**62))


@compiled
def _mixed(state: np.uint64) -> np.uint64:
    """Compute 64 pseudorandom bits from a state (SplitMix64, Steele et al. 2014)."""
    state = (state ^ (state >> SHIFT_1)) * MIX_1
    state = (state ^ (state >> SHIFT_2)) * MIX_2
    return state ^ (state >> SHIFT_3)


@compiled
def _pick(
    frame: np.ndarray, out: np.ndarray, rows: np.ndarray, columns: np.ndarray, top: int, left: int, mirrored: bool
) -> None:
    """Set out[c, top + y, left + x] = frame[c, rows[y], columns[x]] for all channels c.

    If `mirrored`, the channels of `frame` are taken in reverse order.
    """
    channels = len(out)
    for c in range(channels):
        source, target = frame[channels - 1 - c if mirrored else c], out[c]
        for y in range(rows.size):
            source_row, target_row = source[rows[y]], target[top + y]
            for x in range(columns.size):
                target_row[left + x] = source_row[columns[x]]
