"""Find lamps that flicker with the mains, from the spectrum of the event rate."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.data.check.evidence import Curves
from detector.data.check.finding import Finding

__all__ = ["RateCounter", "flicker_lines", "time_step"]

BIN_US = 1000
MAX_BINS = 600_000
"""Number of bins of the event rate: the first ten minutes of a recording."""

SEGMENT = 1000
"""Number of bins of a segment. Lines of the spectrum are 1 Hz apart."""

MAINS_HZ = (50, 60, 100, 120)
"""Frequencies of lamps. Light changes twice per cycle of the mains voltage, some lamps once."""

MIN_AMPLITUDE = 0.1
"""Smallest amplitude of the event rate at a frequency or its double, relative to the mean rate."""

MIN_RATIO = 8.0
"""Smallest ratio of a line to the median of the spectrum between half and twice its frequency."""

OTHER_LINES_HZ = (15, 130)
"""Range of frequencies in which no line of another series may be as strong. Simulators cause lines at their frame rate.
"""


MAX_FILLED = 0.5
"""Share of the milliseconds from the first to the last event below which the times may be in steps.

Recordings with pauses also have many milliseconds without events, but not at equal distances.
"""

STEP_SHARE, MIN_BINS = 0.99, 100
"""Share of the milliseconds with events that are on one grid, and their smallest number, for times in steps."""


class RateCounter:
    """Counts events per millisecond.

    Args:
        start: time of the first event in microseconds.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self._counts = np.zeros(0, np.int64)

    def add(self, times: np.ndarray) -> None:
        """Add events with times in microseconds, sorted."""
        bins = (times - self._start) // BIN_US
        bins = bins[: np.searchsorted(bins, MAX_BINS)]
        if not bins.size:
            return
        needed = int(bins[-1]) + 1
        if needed > self._counts.size:
            self._counts = np.append(self._counts, np.zeros(max(needed, self._counts.size), np.int64))
        first = int(bins[0])
        self._counts[first:needed] += np.bincount(bins - first)

    @property
    def step(self) -> float | None:
        """Step of the event times in milliseconds, None if they are finer than 2 ms."""
        return time_step(np.flatnonzero(self._counts))

    def findings(self, path: Path) -> Iterator[Finding]:
        """Yield a warning if the times are in coarse steps, or if the event rate oscillates as with lamps."""
        used = np.flatnonzero(self._counts)
        step = time_step(used)
        if step is not None:
            yield Finding(
                "warning",
                path,
                "coarse event times",
                f"the events have times in steps of about {step:.3g} ms",
                "times in steps of 1 ms or less",
                "probably a simulation of frames, or rounded times: flicker cannot be found, and events can be equal",
            )
            return
        frequencies, amplitudes = _spectrum(self._counts[: used[-1] + 1] if used.size else self._counts)
        lines = flicker_lines(frequencies, amplitudes)
        if not lines:
            return
        first, amplitude = lines[0]
        also = f", {lines[1][1]:.0%} at {lines[1][0]} Hz" if len(lines) > 1 else ""
        curve = Curves(
            f"Spectrum of the event rate: a line at {first} Hz",
            "frequency (Hz)",
            "amplitude relative to the mean rate",
            {"event rate": (frequencies[5:], amplitudes[5:])},
            {f"{frequency} Hz": float(frequency) for frequency, _ in lines},
        )
        yield Finding(
            "warning",
            path,
            "flicker",
            f"the event rate oscillates at {first} Hz by {amplitude:.0%} of its mean{also}",
            f"at most {MIN_AMPLITUDE:.0%} at {', '.join(map(str, MAINS_HZ))} Hz",
            "probably lamps: use the anti-flicker filter of the sensor, or other light",
            (curve,),
        )


def time_step(used: np.ndarray) -> float | None:
    """Return the step of event times in milliseconds, None if the times are finer than 2 ms.

    Args:
        used: (B,) indices of the milliseconds with events, sorted.
    """
    if used.size < MIN_BINS or used.size > MAX_FILLED * (used[-1] - used[0] + 1):
        return None
    gaps = np.diff(used)
    step = float(np.median(gaps))
    step = float(gaps[np.abs(gaps - step) <= 1].mean())  # steps of 16.7 ms have gaps of 16 and 17 ms
    steps = gaps / step
    whole = np.abs(gaps - np.round(steps) * step) <= 1.0
    return step if step >= 2 and np.mean(whole & (steps >= 0.9)) >= STEP_SHARE else None


def flicker_lines(frequencies: np.ndarray, amplitudes: np.ndarray) -> list[tuple[int, float]]:
    """Find the line of a lamp and the line at its double frequency.

    Args:
        frequencies: (F,) frequencies in Hz, 1 Hz apart, from 0.
        amplitudes: (F,) amplitudes relative to the mean.

    Returns:
        Frequency and amplitude of one or two lines, an empty list if there is no lamp.
    """
    if not amplitudes.size:
        return []
    candidates = [line for line in MAINS_HZ if _is_line(frequencies, amplitudes, line)]
    if not candidates:
        return []
    base = max(candidates, key=lambda line: _height(amplitudes, line))
    base = base // 2 if base // 2 in candidates else base
    strongest = max(_height(amplitudes, base), _height(amplitudes, 2 * base))
    others = [
        frequency
        for frequency in range(OTHER_LINES_HZ[0], OTHER_LINES_HZ[1])
        if min(frequency % base, base - frequency % base) > 2 and amplitudes[frequency] > 0.5 * strongest
    ]
    if strongest < MIN_AMPLITUDE or others:
        return []
    lines = [(base, _height(amplitudes, base))]
    if _is_line(frequencies, amplitudes, 2 * base):
        lines.append((2 * base, _height(amplitudes, 2 * base)))
    return lines


def _is_line(frequencies: np.ndarray, amplitudes: np.ndarray, line: int) -> bool:
    around = amplitudes[(frequencies > line / 2) & (frequencies < 2 * line)]
    return _height(amplitudes, line) >= MIN_RATIO * max(float(np.median(around)), 1e-9)


def _height(amplitudes: np.ndarray, line: int) -> float:
    return float(amplitudes[line - 1 : line + 2].max())


def _spectrum(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the amplitudes of the event rate relative to its mean, averaged over segments of one second (Welch)."""
    segments = counts[: counts.size // SEGMENT * SEGMENT].reshape(-1, SEGMENT).astype(np.float64)
    segments = segments[segments.mean(axis=1) > 0]
    if not segments.size:
        return np.empty(0), np.empty(0)
    window = np.hanning(SEGMENT)
    means = segments.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft((segments - means) * window, axis=1)) ** 2
    amplitude = 2 / window.sum() * np.sqrt(power.mean(axis=0)) / means.mean()
    return np.fft.rfftfreq(SEGMENT, BIN_US / 1e6), amplitude
