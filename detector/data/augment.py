"""Random changes of a sequence: the same for all its frames, so that the recurrent state stays valid."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from detector.preprocess.representation import Representation
from detector.utils.compiled import compiled

__all__ = ["Augmentation", "Rect", "draw_augmentation"]

FLIP_PROBABILITY = 0.5
ZOOM_PROBABILITY = 0.5
ZOOM_RANGE = (0.8, 1.5)
MIN_VISIBLE = 0.25
"""A box of which a zoom leaves a smaller part of the area inside the frame is dropped."""

DROPOUT_PROBABILITY = 0.5
KEEP_RANGE = (0.7, 1.0)
"""Share of the events that an event dropout leaves."""

BLOCK = 32
"""Values that are looked at together for any that is not 0: few are."""

KEY_STEP, MIX_1, MIX_2 = (np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
SHIFT_1, SHIFT_2, SHIFT_3, TO_53_BITS = (np.uint64(value) for value in (30, 27, 31, 11))


@dataclass(frozen=True)
class Rect:
    """A rectangle of whole pixels: left column x, top row y, width w, height h."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Augmentation:
    """An event dropout, then a zoom, then a flip.

    Args:
        height: rows of a frame.
        width: columns of a frame.
        source: part of the frame that is shown.
        target: where it is shown; around it there are no events.
        flip: left and right change places.
        keep: probability of each event to stay.
        key: of the draws of the dropout.
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
        """Transform a frame.

        Values are picked, not mixed (nearest neighbour): a count of events stays a count of events. Of a count, each
        event stays by its own draw; a count that was clipped loses as if it had been no larger. Of other values, all
        of a pixel and channel go together.

        Args:
            frame: (C, H, W), contiguous; events are dropped from it in place.
            out: (C, H, W) of the same type, contiguous, overwritten.
            number: of the frame; equal ones get equal draws.
            representation: what the values are.
            backwards: show it as time running backwards meets it.
        """
        bits = f"u{frame.itemsize}"  # compiled loops do not know half precision; moving values needs no arithmetic
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
        """The rows and columns of a frame that those of the target show."""
        rows = self.source.y + _nearest(self.source.h, self.target.h)
        columns = self.source.x + _nearest(self.source.w, self.target.w)
        return rows, columns[::-1].copy() if self.flip else columns

    @property
    def _left(self) -> int:
        """First column of the target, after the flip."""
        return self.width - self.target.x - self.target.w if self.flip else self.target.x

    def _state(self, number: int) -> np.uint64:
        return np.uint64((self.key + number * int(KEY_STEP)) % 2**64)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Transform boxes as `frames` does, crop them to the frame and drop those that are mostly cut away.

        Args:
            boxes: (M, 4 or more) x1, y1, x2, y2 in pixels, then whatever stays as it is; not changed.

        Returns:
            (M', 4 or more) array of the same type.
        """
        moved = boxes.copy()
        moved[:, [0, 2]] = (boxes[:, [0, 2]] - self.source.x) * (self.target.w / self.source.w) + self.target.x
        moved[:, [1, 3]] = (boxes[:, [1, 3]] - self.source.y) * (self.target.h / self.source.h) + self.target.y
        if self.flip:
            moved[:, [0, 2]] = self.width - moved[:, [2, 0]]
        cropped = moved.copy()
        cropped[:, [0, 2]] = moved[:, [0, 2]].clip(0, self.width)
        cropped[:, [1, 3]] = moved[:, [1, 3]].clip(0, self.height)
        return cropped[_areas(cropped) >= MIN_VISIBLE * _areas(moved)]


def draw_augmentation(rng: np.random.Generator, height: int, width: int) -> Augmentation:
    """Draw a flip, a zoom (log-uniform from 0.8 to 1.5, anywhere) and an event dropout (0.7 to 1), each half the time.

    Args:
        rng: source of randomness.
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
    """A rectangle with this fraction of the frame's sides, anywhere inside it."""
    h, w = max(1, round(height * fraction)), max(1, round(width * fraction))
    return Rect(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _nearest(source: int, target: int) -> np.ndarray:
    """For each of `target` pixels the one of `source` that holds its centre."""
    return ((2 * np.arange(target) + 1) * source // (2 * target)).astype(np.uint32)


@compiled
def _drop(values: np.ndarray, log_keep: float, state: np.uint64, counts: bool) -> None:
    """Take away events, each with probability 1 - exp(log_keep): a value of 1 less, or all of it.

    Drawn is how many events stay before the next one that goes, so that most of them cost no draw.
    """
    state = _mixed(state)
    staying = _draw_run(state, log_keep)
    for start in range(0, values.size, BLOCK):
        stop = min(start + BLOCK, values.size)
        found = values[start]
        for i in range(start + 1, stop):
            found |= values[i]
        if found == 0:
            continue
        for i in range(start, stop):
            events = np.int64(values[i])
            if not counts and events > 1:
                events = np.int64(1)
            if events <= staying:
                staying -= events
                continue
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
    """How many events stay in a row."""
    uniform = (np.float64(_mixed(state) >> TO_53_BITS) + 1) / 2.0**53
    return np.int64(min(math.log(uniform) / log_keep, 2.0**62))


@compiled
def _mixed(state: np.uint64) -> np.uint64:
    """64 bits that look random for each of successive states (Steele et al. 2014, SplitMix)."""
    state = (state ^ (state >> SHIFT_1)) * MIX_1
    state = (state ^ (state >> SHIFT_2)) * MIX_2
    return state ^ (state >> SHIFT_3)


@compiled
def _pick(
    frame: np.ndarray, out: np.ndarray, rows: np.ndarray, columns: np.ndarray, top: int, left: int, mirrored: bool
) -> None:
    """Put out[c, top + y, left + x] = frame[c, rows[y], columns[x]], with the channels in reverse if mirrored."""
    channels = len(out)
    for c in range(channels):
        source, target = frame[channels - 1 - c if mirrored else c], out[c]
        for y in range(rows.size):
            source_row, target_row = source[rows[y]], target[top + y]
            for x in range(columns.size):
                target_row[left + x] = source_row[columns[x]]
