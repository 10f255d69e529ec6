"""Boxes with text, captions and legends on images. Texts avoid each other, and styles differ without colour, too."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.visualization.video import to_pillow

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = [
    "DETECTION",
    "FALSE_ALARM",
    "FOUND_LABEL",
    "MISSED_LABEL",
    "Color",
    "Key",
    "Mark",
    "Style",
    "add_texts",
    "draw_marks",
    "shorten",
]

Color = tuple[int, int, int]
Area = tuple[float, float, float, float]
INK, PAPER = (30, 30, 30), (255, 255, 255)
BOX_WEIGHT = 0.1
"""Weight of a covered pixel of a box relative to a covered pixel of another text."""


class Style(NamedTuple):
    """Line style of a box. Lengths are multiples of the text size.

    Args:
        width: width of the line.
        dash: length of a dash and of the gap after it; None for a solid line.
        filled: whether the text of the box is white on the colour of the box. Otherwise, the colours are swapped.
    """

    width: float
    dash: tuple[float, float] | None = None
    filled: bool = True


DETECTION = Style(0.15)
FALSE_ALARM = Style(0.15, (0.6, 0.35), filled=False)
FOUND_LABEL = Style(0.05)
MISSED_LABEL = Style(0.2, (0.2, 0.3), filled=False)


class Mark(NamedTuple):
    """A box to draw: x1, y1, x2, y2 in pixels of the image, its colour and style, and its text, which may be empty."""

    corners: Area
    color: Color
    style: Style
    text: str = ""


class Key(NamedTuple):
    """An entry of a legend: its text, and a sample of a line style in a colour. Without a style, a filled square."""

    text: str
    color: Color
    style: Style | None = None


def shorten(name: str, length: int) -> str:
    """Shorten a name to at most `length` characters. In a longer name, "..." replaces the end."""
    return name if len(name) <= length else f"{name[: length - 3]}..."


def draw_marks(image: Tensor, marks: Iterable[Mark], text_size: int) -> Tensor:
    """Draw boxes, and then their texts, on a copy of an image. The texts of later boxes are placed first.

    A text is above its box, below it, or beside it, at the place where it covers the least of other texts and boxes.

    Args:
        image: (3, H, W) uint8.
        marks: boxes; parts outside the image are cropped.
        text_size: height of the texts in pixels.

    Returns:
        (3, H, W) uint8.
    """
    from PIL import ImageDraw

    canvas = to_pillow(image)
    draw, marks = ImageDraw.Draw(canvas), list(marks)
    bounds = np.array([canvas.width - 1, canvas.height - 1] * 2)
    areas: list[Area] = [tuple(np.clip(mark.corners, 0, bounds).round().tolist()) for mark in marks]
    for mark, area in zip(marks, areas, strict=True):
        _draw_box(draw, area, mark.color, mark.style, text_size)
    taken: list[Area] = []
    for mark, area in reversed(list(zip(marks, areas, strict=True))):
        if mark.text:
            size = _text_width(mark.text, text_size) + 4, text_size + 2
            place = _place(area, *size, (bounds[0], bounds[1]), taken, areas)
            taken.append(place)
            colors = (mark.color, PAPER) if mark.style.filled else (PAPER, mark.color)
            draw.rectangle(place, fill=colors[0], outline=mark.color)
            _draw_text(draw, place[0] + 2, place[1], mark.text, text_size, colors[1])
    return _to_tensor(np.array(canvas))


def add_texts(image: Tensor, caption: str, legend: Sequence[Key], text_size: int) -> Tensor:
    """Add a caption above an image and a legend below it. Both cover nothing of the image.

    Args:
        image: (3, H, W) uint8.
        caption: text above the image; none if empty. A caption that is too wide loses its start.
        legend: entries of the legend, in as many rows as necessary; none if empty.
        text_size: height of the texts in pixels.

    Returns:
        (3, H', W) uint8.
    """
    parts = [image]
    if caption:
        parts.insert(0, _caption(caption, image.shape[2], text_size))
    if legend:
        parts.append(_legend(tuple(legend), image.shape[2], text_size))
    return torch.cat(parts, dim=1)


def _caption(text: str, width: int, size: int) -> Tensor:
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (width, round(1.6 * size)), PAPER)
    start = 0
    while _text_width(text[start:], size) > width - size and start < len(text):
        start += 1
    shown = f"...{text[start + 3 :]}" if start else text
    _draw_text(ImageDraw.Draw(canvas), size // 2, size // 4, shown, size, INK)
    return _to_tensor(np.array(canvas))


@lru_cache(maxsize=8)
def _legend(keys: tuple[Key, ...], width: int, size: int) -> Tensor:
    """Draw a legend of the given width. Entries are in rows from left to right."""
    from PIL import Image, ImageDraw

    places, x, y, row = [], size // 2, size // 4, round(1.5 * size)
    for key in keys:
        length = round(2.4 * size) + _text_width(key.text, size)
        if x > size // 2 and x + length > width:
            x, y = size // 2, y + row
        places.append((x, y))
        x += length + size
    canvas = Image.new("RGB", (width, y + row), PAPER)
    draw = ImageDraw.Draw(canvas)
    for key, (x, y) in zip(keys, places, strict=True):
        sample: Area = (x, y + size // 8, x + 1.8 * size, y + size)
        if key.style is None:
            draw.rectangle((x + 0.5 * size, *sample[1:2], x + 1.4 * size, sample[3]), fill=key.color)
        else:
            _draw_box(draw, sample, key.color, key.style, size)
        _draw_text(draw, x + round(2.2 * size), y, key.text, size, INK)
    return _to_tensor(np.array(canvas))


def _draw_box(draw: "ImageDraw", area: Area, color: Color, style: Style, text_size: int) -> None:
    """Draw the four sides of a box inside its area."""
    x1, y1, x2, y2 = area
    width = max(1, round(style.width * text_size))
    if style.dash is None:
        draw.rectangle(area, outline=color, width=width)
        return
    dash, gap = (max(2.0, length * text_size) for length in style.dash)
    edge = width - 1
    for a in np.arange(x1, x2, dash + gap):
        for y in (y1, max(y1, y2 - edge)):
            draw.rectangle((a, y, min(a + dash - 1, x2), y + edge), fill=color)
    for a in np.arange(y1, y2, dash + gap):
        for x in (x1, max(x1, x2 - edge)):
            draw.rectangle((x, a, x + edge, min(a + dash - 1, y2)), fill=color)


def _place(
    box: Area,
    width: float,
    height: float,
    limits: tuple[float, float],
    taken: Sequence[Area],
    boxes: Sequence[Area] = (),
) -> Area:
    """Return the area of a text of a box: the first place where it covers the least of other texts and of boxes.

    Args:
        box: the box of the text.
        width: width of the text.
        height: height of the text.
        limits: largest x and y.
        taken: areas of other texts.
        boxes: areas of all boxes, which count less than texts.
    """
    x1, y1, x2, y2 = box
    corners = [(x1, y1 - height - 1), (x2 - width, y1 - height - 1), (x1, y2 + 1), (x2 - width, y2 + 1)]
    corners += [(x2 + 1, y1), (x1 - width - 1, y1), (x2 + 1, y2 - height), (x1 - width - 1, y2 - height)]
    corners += [(x1, y1 - 2 * height - 2), (x1, y2 + height + 2), (x1, y1)]
    best, least = (0.0, 0.0, width, height), float("inf")
    for left, top in corners:
        x, y = max(0.0, min(left, limits[0] - width)), max(0.0, min(top, limits[1] - height))
        area = (x, y, x + width, y + height)
        covered = _overlap(area, taken) + BOX_WEIGHT * _overlap(area, boxes)
        if covered < least:
            best, least = area, covered
    return best


def _overlap(area: Area, others: Sequence[Area]) -> float:
    """Return the sum of the intersections of an area with other areas, in pixels."""
    x1, y1, x2, y2 = np.array(others).reshape(-1, 4).T
    width = np.minimum(x2, area[2]) - np.maximum(x1, area[0]) + 1
    height = np.minimum(y2, area[3]) - np.maximum(y1, area[1]) + 1
    return float((width.clip(min=0) * height.clip(min=0)).sum())


@lru_cache(maxsize=8)
def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)


@lru_cache(maxsize=1024)
def _text_width(text: str, size: int) -> int:
    return round(_font(size).getbbox(text)[2])


def _draw_text(draw: "ImageDraw", x: float, y: float, text: str, size: int, color: Color) -> None:
    draw.text((x, y), text, color, _font(size))


def _to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
