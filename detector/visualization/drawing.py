"""Events and boxes as images: uint8 RGB tensors (3, H, W)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import make_grid

from detector.box import box_iou
from detector.utils.atomic_write import atomic_write
from detector.visualization.annotation import (
    DETECTION,
    FALSE_ALARM,
    FOUND_LABEL,
    MISSED_LABEL,
    Color,
    Key,
    Mark,
    add_texts,
    draw_marks,
    shorten,
)
from detector.visualization.video import gif_video, to_pillow

__all__ = [
    "contact_sheet",
    "draw_detections",
    "draw_stream",
    "events_to_image",
    "frame_caption",
    "legend_of",
    "match_labels",
    "save_gif",
    "save_png",
]

BACKGROUND = (250, 250, 250)
OFF_COLOR, ON_COLOR = (60, 60, 70), (90, 150, 240)
TARGET_COLOR = (0, 160, 60)
"""Colour of ground truth boxes."""

CLASS_COLORS = ((220, 40, 40), (230, 130, 0), (160, 60, 200), (0, 140, 150), (200, 40, 130), (120, 90, 20))
"""Colours of detections by class. The colours repeat if there are more classes than colours."""

READABLE_HEIGHT = 480
"""Frames with fewer rows are enlarged by a whole factor before boxes and text are drawn on them."""

TEXT_SHARE = 24
"""Height of a frame divided by the height of its texts."""

MATCH_IOU = 0.5
NAME_LENGTH, LEGEND_NAME_LENGTH = 16, 40
"""Longest names of classes on boxes and in the legend, in characters. Longer names are shortened."""

STYLE_COLOR = (90, 90, 90)
"""Colour of the samples of line styles in the legend, because the colours of boxes depend on their classes."""


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


def draw_detections(
    frame: Tensor | np.ndarray,
    detections: Mapping[str, Tensor],
    class_names: Sequence[str],
    targets: Tensor | np.ndarray | None = None,
    score_thresh: float = 0.4,
    caption: str = "",
    legend: Sequence[Key] | None = None,
) -> Tensor:
    """Draw events, detections, and ground truth.

    Each detection has the colour of its class and a text with class name and score. With ground truth, labels are
    green, and line styles tell matched from unmatched boxes, see `match_labels`: detections that match no label (false
    alarms) are dashed, labels that match no detection (missed) are dotted and have a text.

    Args:
        frame: (C, H, W) histogram, see `events_to_image`.
        detections: "boxes" (M, 4) x1, y1, x2, y2 in pixels of the frame, "scores" (M,), "labels" (M,) from 1.
        class_names: names of the labels 1..K.
        targets: (G, >= 5) ground truth x1, y1, x2, y2, label from 1, ... in pixels of the frame; None to draw none.
        score_thresh: detections with a lower score are omitted.
        caption: text above the frame, such as `frame_caption`.
        legend: entries of the legend below the frame, the same for all frames of a video; if None, `legend_of`.

    Returns:
        (3, H', W * s) uint8, where s is the smallest factor that gives at least `READABLE_HEIGHT` rows, and H' is H * s
        and the rows of caption and legend.
    """
    image = events_to_image(frame)
    scale = -(-READABLE_HEIGHT // image.shape[1])
    image = image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    size = round(image.shape[1] / TEXT_SHARE)
    shown = detections["scores"] >= score_thresh
    found = {name: values[shown].detach().cpu() for name, values in detections.items()}
    truth = None if targets is None else torch.as_tensor(targets).detach().cpu()
    image = draw_marks(image, _marks(found, class_names, truth, scale), size)
    return add_texts(image, caption, legend_of(class_names, truth is not None) if legend is None else legend, size)


def draw_stream(
    batch: Mapping[str, Any], detections: Sequence[Sequence[Mapping[str, Tensor]]], class_names: Sequence[str]
) -> Iterator[Tensor]:
    """Draw the first stream of a batch, with detections, with ground truth in labelled frames, and with captions.

    Args:
        batch: batch of a dataset, see `SequenceDataset.__getitem__`.
        detections: T lists of the detections in B frames, see `draw_detections`.
        class_names: names of the labels 1..K.

    Yields:
        T images of the same size, see `draw_detections`.
    """
    info, start = batch["video_infos"][0]
    legend = legend_of(class_names, True)
    for t, rows in enumerate(detections):
        labelled = bool(batch["frame_is_labeled"][t, 0])
        caption = "no recording" if info is None else frame_caption(info.name, info.frames.end_of(start + t))
        caption += "" if labelled else "   (no labels)"
        targets = batch["labels"][t][0] if labelled else None
        yield draw_detections(batch["inputs"][t, 0], rows[0], class_names, targets, caption=caption, legend=legend)


def _marks(found: Mapping[str, Tensor], class_names: Sequence[str], truth: Tensor | None, scale: int) -> list[Mark]:
    """Return the boxes to draw, the most important ones last: labels, then detections by increasing score."""
    right, hit = torch.ones(len(found["boxes"]), dtype=torch.bool), torch.zeros(0, dtype=torch.bool)
    if truth is not None:
        right, hit = match_labels(found, truth)
    marks = []
    for row, is_found in zip([] if truth is None else truth.tolist(), hit.tolist(), strict=True):
        text = "" if is_found else f"missed {_short_name(class_names, int(row[4]))}"
        corners = (row[0] * scale, row[1] * scale, row[2] * scale, row[3] * scale)
        marks.append(Mark(corners, TARGET_COLOR, FOUND_LABEL if is_found else MISSED_LABEL, text))
    for index in torch.argsort(found["scores"]).tolist():
        x1, y1, x2, y2 = (found["boxes"][index] * scale).tolist()
        label = int(found["labels"][index])
        text = f"{_short_name(class_names, label)} {float(found['scores'][index]):.2f}"
        style = DETECTION if right[index] else FALSE_ALARM
        marks.append(Mark((x1, y1, x2, y2), CLASS_COLORS[(label - 1) % len(CLASS_COLORS)], style, text))
    return marks


def match_labels(detections: Mapping[str, Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
    """Match the detections in a frame with its labels of the same class at IoU 0.5, in the order of descending scores.

    Each detection is matched with the label that has the highest IoU among the unmatched labels.

    Args:
        detections: "boxes" (M, 4), "scores" (M,), "labels" (M,) as in `draw_detections`.
        targets: (G, >= 5) x1, y1, x2, y2, label, ...

    Returns:
        (M,) bool, whether each detection matches a label, and (G,) bool, whether each label matches a detection.
    """
    boxes, labels = detections["boxes"], detections["labels"]
    right, hit = torch.zeros(len(boxes), dtype=torch.bool), torch.zeros(len(targets), dtype=torch.bool)
    overlap = box_iou(boxes, targets[:, :4]) * (labels[:, None] == targets[None, :, 4])
    for index in torch.argsort(detections["scores"], descending=True, stable=True).tolist() if len(targets) else ():
        best = int(torch.where(hit, -1.0, overlap[index]).argmax())
        if not hit[best] and overlap[index, best] >= MATCH_IOU:
            right[index] = hit[best] = True
    return right, hit


def legend_of(class_names: Sequence[str], with_targets: bool) -> list[Key]:
    """Return the entries of the legend of `draw_detections`.

    Args:
        class_names: names of the classes. Of many classes, only those with different colours are named.
        with_targets: whether ground truth is drawn.
    """
    names = zip(CLASS_COLORS, class_names, strict=False)
    keys = [Key(shorten(name, LEGEND_NAME_LENGTH), color, DETECTION) for color, name in names]
    if len(class_names) > len(CLASS_COLORS):
        keys.append(Key(f"and {len(class_names) - len(CLASS_COLORS)} more classes", STYLE_COLOR, DETECTION))
    if with_targets:
        keys.append(Key("detection, correct", STYLE_COLOR, DETECTION))
        keys.append(Key("false alarm", STYLE_COLOR, FALSE_ALARM))
        keys.append(Key("label, found", TARGET_COLOR, FOUND_LABEL))
        keys.append(Key("label, missed", TARGET_COLOR, MISSED_LABEL))
    else:
        keys.append(Key("detection", STYLE_COLOR, DETECTION))
    return [*keys, Key("ON events", ON_COLOR), Key("OFF events", OFF_COLOR)]


def frame_caption(recording: str | Path, end: int) -> str:
    """Return the caption of a frame: name of the recording without folder, and end of the frame in seconds.

    Args:
        recording: name or path of the recording.
        end: end of the frame in microseconds.
    """
    return f"{Path(recording).name}   t = {end / 1e6:.2f} s".strip()


def _short_name(class_names: Sequence[str], label: int) -> str:
    return shorten(class_names[label - 1], NAME_LENGTH)


def contact_sheet(images: Sequence[Tensor], columns: int, title: str = "", legend: Sequence[Key] = ()) -> Tensor:
    """Arrange images of one size in rows, with a margin between them.

    Args:
        images: (3, H, W) uint8 images.
        columns: number of images per row.
        title: text above all images.
        legend: entries of the legend below all images.

    Returns:
        (3, H', W') uint8 image.

    Raises:
        ValueError: there are no images, or their sizes differ.
    """
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) != 1:
        raise ValueError(f"images: got sizes {sorted(sizes) or 'none'}, allowed: images of one size")
    sheet = make_grid(list(images), nrow=min(columns, len(images)), padding=4, pad_value=120)
    return add_texts(sheet, title, legend, round(images[0].shape[1] / TEXT_SHARE * 1.2))


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
