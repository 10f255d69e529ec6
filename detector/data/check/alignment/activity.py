"""Count events in boxes: a grid of counts over time and space, summed up so that each count costs a few look-ups."""

from dataclasses import dataclass

import numpy as np

from detector.events.arrays import Columns

__all__ = ["Activity", "ActivityBuilder", "choose_window"]

MAX_ENTRIES = 20_000_000
"""Largest number of entries of the grid. Larger sensors and longer windows get larger cells."""

BIN_US = 20_000
"""Duration in microseconds of a time step of the grid of a recording."""

LONGEST_US = 60_000_000
"""Longest part of a file that is compared with its labels, in microseconds."""

MARGIN_US = 5_000_000
"""Time in microseconds before the first and after the last label that belongs to the part, as far as the file lasts.

It is at most a quarter of the part.
"""


@dataclass(frozen=True)
class Activity:
    """Number of events of a part of a file in any box and time interval.

    Args:
        sums: (N + 1, h + 1, w + 1) uint32. Entry [n, y, x] is the number of events of the first n time steps in the
            first y rows and x columns of cells.
        start: time in microseconds at which the first time step begins.
        step: duration of a time step in microseconds.
        cell: (height, width) of a cell in sensor pixels.
        sensor_size: height and width of the sensor in pixels.
    """

    sums: np.ndarray
    start: int
    step: int
    cell: tuple[float, float]
    sensor_size: tuple[int, int]

    @property
    def end(self) -> int:
        """Time in microseconds at which the last time step ends."""
        return self.start + (len(self.sums) - 1) * self.step

    def count(self, corners: np.ndarray, times: np.ndarray, window: int) -> np.ndarray:
        """Count the events in boxes. Cells and time steps that are covered in part count in part.

        Args:
            corners: (M, 4) x1, y1, x2, y2 in sensor pixels, inside the sensor.
            times: (M,) centres of the time intervals in microseconds.
            window: duration of the time intervals in microseconds.

        Returns:
            (M,) float64.
        """
        begin, end = ((times + sign * window / 2 - self.start) / self.step for sign in (-1, 1))
        (height, width), (_, rows, columns) = self.cell, self.sums.shape
        steps, step_weights = _ends(begin, end, len(self.sums))
        ys, y_weights = _ends(corners[:, 1] / height, corners[:, 3] / height, rows)
        xs, x_weights = _ends(corners[:, 0] / width, corners[:, 2] / width, columns)
        places = (steps[:, :, None, None] * rows + ys[:, None, :, None]) * columns + xs[:, None, None, :]
        entries = self.sums.reshape(-1).take(places).astype(np.float64)
        return np.einsum("mtyx,mt,my,mx->m", entries, step_weights, y_weights, x_weights)

    def image(self, time: int, window: int) -> np.ndarray:
        """Return the number of events in each cell, (h, w), in an interval of `window` microseconds around a time."""
        steps = [round((time + sign * window / 2 - self.start) / self.step) for sign in (-1, 1)]
        begin, end = np.clip(steps, 0, len(self.sums) - 1)
        summed = self.sums[end].astype(np.int64) - self.sums[begin]
        return np.diff(np.diff(summed, axis=0), axis=1)


def _ends(begin: np.ndarray, end: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries of one axis of the sums between which both ends of an interval are, and their weights.

    Args:
        begin: (M,) starts in entries.
        end: (M,) ends in entries.
        length: number of entries of the axis, at least 2.

    Returns:
        (M, 4) int64 entries and (M, 4) float64 weights. The weights of the start are negative.
    """
    indices, weights = [], []
    for sign, values in ((-1, begin), (1, end)):
        clipped = np.clip(values, 0, length - 1)
        floor = np.minimum(clipped.astype(np.int64), length - 2)
        indices += [floor, floor + 1]
        weights += [sign * (1 - clipped + floor), sign * (clipped - floor)]
    return np.stack(indices, axis=1), np.stack(weights, axis=1)


class ActivityBuilder:
    """Collects the counts of an `Activity` from events or frames that arrive in order of time.

    Args:
        sensor_size: height and width of the sensor in pixels.
        window: start and end of the part of the file in microseconds.
        step: duration of a time step in microseconds.
    """

    def __init__(self, sensor_size: tuple[int, int], window: tuple[int, int], step: int = BIN_US) -> None:
        height, width = sensor_size
        self.start, self.step, self.sensor_size = window[0], step, sensor_size
        self._num_steps = max(1, -(-(window[1] - window[0]) // step))
        cell = 1
        while self._num_steps * (-(-height // cell)) * (-(-width // cell)) > MAX_ENTRIES:
            cell += 1
        self._cell = cell
        shape = self._num_steps + 1, -(-height // cell) + 1, -(-width // cell) + 1
        self._sums = np.zeros(shape, np.uint32)

    def add_events(self, columns: Columns) -> None:
        """Add events. Events outside the window are ignored."""
        x, y, _, t = columns
        first, last = np.searchsorted(t, (self.start, self.start + self._num_steps * self.step))
        if first == last:
            return
        steps = (t[first:last] - self.start) // self.step
        begin, end = int(steps[0]), int(steps[-1]) + 1
        _, rows, columns_of_cells = self._sums.shape
        cells = y[first:last] // self._cell * np.int64(columns_of_cells - 1) + x[first:last] // self._cell
        size = (rows - 1) * (columns_of_cells - 1)
        counts = np.bincount((steps - begin) * size + cells, minlength=(end - begin) * size)
        self._sums[begin + 1 : end + 1, 1:, 1:] += counts.reshape(end - begin, rows - 1, -1).astype(np.uint32)

    def add_frame(self, step: int, active: np.ndarray) -> None:
        """Add a frame of a tensor file.

        Args:
            step: index of the time step.
            active: (H, W) bool, True for pixels with events. The frame may be smaller than the sensor.
        """
        height, width = self.sensor_size
        y, x = np.nonzero(active)
        y, x = (2 * y + 1) * height // (2 * active.shape[0]), (2 * x + 1) * width // (2 * active.shape[1])
        np.add.at(self._sums[step + 1], (y // self._cell + 1, x // self._cell + 1), 1)

    def build(self) -> Activity:
        """Return the summed counts. No events can be added afterwards."""
        for axis in range(3):
            np.cumsum(self._sums, axis=axis, out=self._sums)
        return Activity(self._sums, self.start, self.step, (self._cell, self._cell), self.sensor_size)


def choose_window(times: np.ndarray, events: tuple[int, int], longest: int = LONGEST_US) -> tuple[int, int]:
    """Choose the part of a file that is compared with its labels: the part with the most labelled times.

    Args:
        times: (K,) labelled times in microseconds, sorted.
        events: times of the first and last event in microseconds.
        longest: longest part in microseconds.

    Returns:
        Start and end in microseconds; the end is exclusive.
    """
    first, last = events[0], events[1] + 1
    if last - first <= longest:
        return first, last
    inside = times[(times >= first) & (times < last)]
    if not inside.size:
        return first, first + longest
    margin = min(MARGIN_US, longest // 4)
    counts = np.searchsorted(inside, inside + longest - 2 * margin) - np.arange(inside.size)
    start = int(np.clip(inside[np.argmax(counts)] - margin, first, last - longest))
    return start, start + longest
