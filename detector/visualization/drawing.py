"""Events and boxes as images: uint8 RGB tensors (3, H, W)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, make_grid

from detector.box import box_clamp
from detector.utils.atomic_write import atomic_write
from detector.visualization.video import gif_video, to_pillow

__all__ = ["contact_sheet", "draw_boxes", "draw_detections", "events_to_image", "save_gif", "save_png"]

BACKGROUND = (250, 250, 250)
OFF_COLOR, ON_COLOR = (60, 60, 70), (90, 150, 240)
TARGET_COLOR = (0, 160, 60)
"""Colour of ground truth boxes."""

CLASS_COLORS = ((220, 40, 40), (230, 130, 0), (160, 60, 200), (0, 140, 150), (200, 40, 130), (120, 90, 20))
"""Colours of detections by class. The colours repeat if there are more classes than colours."""

READABLE_HEIGHT = 480
"""Frames with fewer rows are enlarged before text is drawn on them."""

Color = tuple[int, int, int]


def events_to_image(frame: Tensor | np.ndarray) -> Tensor:
    """Draw a histogram of events: a light background, and one colour per polarity.

    Args:
        frame: (C, H, W) counts of at least 0, raw or scaled, in channels OFF, ON, OFF, ON, ...

    Returns:
        (3, H, W) uint8. The pixel with the most events has the full colour. A pixel with events of both polarities has
        a mixture of both colours.

    Raises:
        ValueError: the frame does not have three dimensions or has an odd number of channels.
    """
    counts = torch.as_tensor(frame).detach().to("cpu", torch.float32)
    if counts.ndim != 3 or counts.shape[0] % 2:
        raise ValueError(f"frame: got shape {tuple(counts.shape)}, allowed: (C, H, W) with channels OFF, ON, ...")
    off, on = counts[0::2].sum(0), counts[1::2].sum(0)
    total = off + on
    strength = (total / total.max().clamp(min=1e-9)).sqrt()  # because of the root, single events remain visible
    share = on / total.clamp(min=1e-9)
    ink = share * _column(ON_COLOR) + (1 - share) * _column(OFF_COLOR)
    return (strength * ink + (1 - strength) * _column(BACKGROUND)).round().to(torch.uint8)


def draw_boxes(
    image: Tensor,
    boxes: Tensor | np.ndarray,
    labels: Sequence[str] | None = None,
    color: Color | Sequence[Color] = TARGET_COLOR,
    width: int = 1,
) -> Tensor:
    """Draw boxes on a copy of an image.

    Args:
        image: (3, H, W) uint8.
        boxes: (M, 4) x1, y1, x2, y2 in pixels of the image; parts outside the image are cropped.
        labels: text of each box; no text if None.
        color: RGB colour of all boxes, or one colour per box.
        width: width of the lines in pixels.

    Returns:
        (3, H, W) uint8.
    """
    corners = torch.as_tensor(boxes).detach().to("cpu", torch.float32).reshape(-1, 4)
    if not len(corners):
        return image.clone()
    corners = box_clamp(corners, 0, 0, image.shape[2] - 1, image.shape[1] - 1)
    colors = color if isinstance(color[0], int) else list(color)
    text = None if labels is None else list(labels)
    return draw_bounding_boxes(image, corners, text, colors, width=width, label_colors="white", fill_labels=True)


def draw_detections(
    frame: Tensor | np.ndarray,
    detections: Mapping[str, Tensor],
    class_names: Sequence[str],
    targets: Tensor | np.ndarray | None = None,
    score_thresh: float = 0.4,
) -> Tensor:
    """Draw events, detections, and ground truth.

    Each detection has the colour of its class and a text with class name and score. Ground truth has thin green lines.

    Args:
        frame: (C, H, W) histogram, see `events_to_image`.
        detections: "boxes" (M, 4) x1, y1, x2, y2 in pixels of the frame, "scores" (M,), "labels" (M,) from 1.
        class_names: names of the labels 1..K.
        targets: (G, >= 4) ground truth x1, y1, x2, y2, ... in pixels of the frame; None to draw none.
        score_thresh: detections with a lower score are omitted.

    Returns:
        (3, H * s, W * s) uint8, where s is the smallest factor that gives at least `READABLE_HEIGHT` rows.
    """
    image = events_to_image(frame)
    scale = -(-READABLE_HEIGHT // image.shape[1])
    image = image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    if targets is not None:
        image = draw_boxes(image, torch.as_tensor(targets)[:, :4] * scale)
    shown = detections["scores"] >= score_thresh
    classes = [int(label) - 1 for label in detections["labels"][shown]]
    scores = detections["scores"][shown].tolist()
    text = [f"{class_names[index]} {score:.2f}" for index, score in zip(classes, scores, strict=True)]
    colors = [CLASS_COLORS[index % len(CLASS_COLORS)] for index in classes]
    return draw_boxes(image, detections["boxes"][shown] * scale, text, colors, width=2)


def contact_sheet(images: Sequence[Tensor], columns: int) -> Tensor:
    """Arrange images of one size in rows, with a margin between them.

    Args:
        images: (3, H, W) uint8 images.
        columns: number of images per row.

    Returns:
        (3, H', W') uint8 image.

    Raises:
        ValueError: there are no images, or their sizes differ.
    """
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) != 1:
        raise ValueError(f"images: got sizes {sorted(sizes) or 'none'}, allowed: images of one size")
    return make_grid(list(images), nrow=min(columns, len(images)), padding=4, pad_value=120)


def save_png(path: str | Path, image: Tensor) -> Path:
    """Write a (3, H, W) uint8 image to a PNG file, and return its path. The file appears only when it is complete."""
    path = Path(path)
    with atomic_write(path) as part:
        to_pillow(image).save(part, format="PNG")
    return path


def save_gif(path: str | Path, images: Iterable[Tensor], delta_t: int) -> Path:
    """Write an endless animation to a GIF file, and return its path. The file appears only when it is complete.

    Args:
        path: file to write.
        images: (3, H, W) uint8 images, at least one.
        delta_t: microseconds from one image to the next. GIF files round times to hundredths of a second.
    """
    path = Path(path)
    with gif_video(path, delta_t) as add:
        for image in images:
            add(image)
    return path


def _column(color: Color) -> Tensor:
    return torch.tensor(color, dtype=torch.float32)[:, None, None]
