"""Data of the figures that show findings. The platform draws them; the detector does not need matplotlib."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Bars", "Curves", "Evidence", "PixelMap"]


@dataclass(frozen=True)
class Curves:
    """One or more curves with marked positions.

    Args:
        title: what the curves show, as one line
        xlabel: quantity and unit of x
        ylabel: quantity and unit of y
        lines: (x, y) arrays by name
        marks: positions on the x axis by name
    """

    title: str
    xlabel: str
    ylabel: str
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]]
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PixelMap:
    """Event counts over the sensor, with boxes and marked pixels.

    Args:
        title: what the map shows, as one line
        counts: (h, w) event counts of the cells of the sensor; None if there are none to show
        sensor_size: height and width of the sensor in pixels
        boxes: (M, 4) x, y, w, h in pixels, by name
        points: (P, 2) x, y of pixels to mark, by name
    """

    title: str
    counts: np.ndarray | None
    sensor_size: tuple[int, int]
    boxes: Mapping[str, np.ndarray] = field(default_factory=dict)
    points: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Bars:
    """Named values.

    Args:
        title: what the values show, as one line
        xlabel: quantity and unit of the values
        values: value by name
        marked: names of values to emphasize
    """

    title: str
    xlabel: str
    values: Mapping[str, float]
    marked: tuple[str, ...] = ()


Evidence = Curves | PixelMap | Bars
