"""Random flip and zoom of a sequence: the same for all its frames, so that the recurrent state stays valid."""

import math
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Augmentation", "Rect", "draw_augmentation"]

FLIP_PROBABILITY = 0.5
ZOOM_PROBABILITY = 0.5
ZOOM_RANGE = (0.8, 1.5)
MIN_VISIBLE = 0.25
"""A box of which a zoom leaves a smaller part of the area inside the frame is dropped."""


@dataclass(frozen=True)
class Rect:
    """A rectangle of whole pixels: left column x, top row y, width w, height h."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Augmentation:
    """A zoom, then a flip.

    Args:
        height: rows of a frame.
        width: columns of a frame.
        source: part of the frame that is shown.
        target: where it is shown; around it there are no events.
        flip: left and right change places.
    """

    height: int
    width: int
    source: Rect
    target: Rect
    flip: bool

    def frames(self, frames: Tensor) -> Tensor:
        """Transform frames.

        Values are picked, not mixed (nearest neighbour): a count of events stays a count of events.

        Args:
            frames: (T, C, H, W) of any type; not changed, and returned itself where there is nothing to do.

        Returns:
            (T, C, H, W) of the same type.
        """
        if self.source != self.target:
            frames = self._zoom(frames)
        return frames.flip(-1) if self.flip else frames

    def _zoom(self, frames: Tensor) -> Tensor:
        source, target = self.source, self.target
        part = frames[..., source.y : source.y + source.h, source.x : source.x + source.w]
        part = F.interpolate(part, size=(target.h, target.w), mode="nearest-exact")
        if part.shape == frames.shape:
            return part
        canvas = frames.new_zeros(frames.shape)
        canvas[..., target.y : target.y + target.h, target.x : target.x + target.w] = part
        return canvas

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
    """Draw a flip (half of the time) and a zoom (half of the time, log-uniform from 0.8 to 1.5, anywhere).

    Args:
        rng: source of randomness.
        height: rows of a frame.
        width: columns of a frame.
    """
    flip = bool(rng.random() < FLIP_PROBABILITY)
    zooms = rng.random() < ZOOM_PROBABILITY
    scale = math.exp(rng.uniform(*np.log(ZOOM_RANGE))) if zooms else 1.0
    whole = Rect(0, 0, width, height)
    if scale >= 1:
        return Augmentation(height, width, _place(rng, height, width, 1 / scale), whole, flip)
    return Augmentation(height, width, whole, _place(rng, height, width, scale), flip)


def _place(rng: np.random.Generator, height: int, width: int, fraction: float) -> Rect:
    """A rectangle with this fraction of the frame's sides, anywhere inside it."""
    h, w = max(1, round(height * fraction)), max(1, round(width * fraction))
    return Rect(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
