"""Layouts in which boxes may be stored by mistake, and the changes that undo them."""

from collections.abc import Callable
from functools import partial

import numpy as np

__all__ = ["STORED", "all_layouts"]

STORED = "as stored"
"""Name of the layout without a change."""

RESOLUTIONS = ((240, 180), (304, 240), (346, 260), (640, 480), (1280, 720), (1920, 1080))
"""Widths and heights in pixels of common sensors and cameras, to which boxes may refer."""

FACTORS = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 4 / 3, 3 / 2, 2, 3, 4)

SAME_SCALE = 0.02
"""Scales that differ by less than this share from each other are tried once."""

Change = Callable[[np.ndarray], np.ndarray]
"""Function from (M, 4) x, y, w, h as stored to the changed x, y, w, h."""


def all_layouts(sensor_size: tuple[int, int]) -> dict[str, Change]:
    """Return the changes that are tried, by name. The first one, `STORED`, is no change.

    Args:
        sensor_size: height and width of the sensor in pixels.
    """
    height, width = sensor_size
    return {
        STORED: lambda xywh: xywh,
        "mirrored in x": partial(_mirror, axis=0, length=width),
        "mirrored in y": partial(_mirror, axis=1, length=height),
        "rotated by 180 degrees": lambda xywh: _mirror(_mirror(xywh, 0, width), 1, height),
        "x and y swapped": lambda xywh: xywh[:, [1, 0, 3, 2]],
        "x, y are centres": lambda xywh: np.hstack([xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, 2:]]),
        "w, h times 2": partial(_resize, factor=2.0, anchor=0.0),
        "w, h times 2 around the centre": partial(_resize, factor=2.0, anchor=0.5),
        "w, h times 0.5": partial(_resize, factor=0.5, anchor=0.0),
        "w, h times 0.5 around the centre": partial(_resize, factor=0.5, anchor=0.5),
        **{name: partial(_scale, factors=factors) for name, factors in _scales(height, width).items()},
    }


def _scales(height: int, width: int) -> dict[str, tuple[float, float]]:
    """Return factors of x and y by name. Factors near 1, and resolutions with the same factors, are left out."""
    scales = {f"all values times {factor:.4g}": (factor, factor) for factor in FACTORS}
    for w, h in RESOLUTIONS:
        factors = width / w, height / h
        known = [(1.0, 1.0), *scales.values()]
        if not any(np.allclose(factors, other, rtol=SAME_SCALE, atol=0) for other in known):
            scales[f"scaled from {w} x {h} px to the sensor"] = factors
    return scales


def _mirror(xywh: np.ndarray, axis: int, length: int) -> np.ndarray:
    mirrored = xywh.copy()
    mirrored[:, axis] = length - xywh[:, axis] - xywh[:, 2 + axis]
    return mirrored


def _scale(xywh: np.ndarray, factors: tuple[float, float]) -> np.ndarray:
    return xywh * (*factors, *factors)


def _resize(xywh: np.ndarray, factor: float, anchor: float) -> np.ndarray:
    """Scale widths and heights. The point at `anchor` (0 top-left corner, 0.5 centre) keeps its place."""
    return np.hstack([xywh[:, :2] + anchor * (1 - factor) * xywh[:, 2:], factor * xywh[:, 2:]])
