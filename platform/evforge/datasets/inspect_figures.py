"""Figures of recordings and datasets: activity over time, box sizes, sample frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.config.groups import DataConfig
from detector.data.check.statistics import LabelStatistics
from detector.data.check.survey import FileSurvey
from evforge.display.figures import COLOURS, make_panels
from evforge.display.tables import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Sample", "boxes_figure", "rate_figure", "samples_figure"]

# ON events are blue, so the first class has the second colour.
CLASS_COLOURS = (*COLOURS[1:], COLOURS[0])
EVENTS, LABELS = COLOURS[0], COLOURS[2]
SPLIT_COLOURS = {"train": COLOURS[0], "val": COLOURS[4], "test": COLOURS[2]}

MAX_PANELS = 6
"""Largest number of files that are drawn as curves; more files are drawn as one point each."""

MAX_NAMES = 30
"""Largest number of files whose names are shown."""

MAX_POINTS = 1000
"""Largest number of points of a curve. A longer curve is drawn as the mean and range of groups of points."""

MAX_BOXES = 20_000
IMAGE_WIDTH, COLUMNS = 480, 4


@dataclass(frozen=True)
class Sample:
    """A frame to draw, with its boxes.

    Args:
        name: name of the file without extension
        time: end of the frame in microseconds
        frame: (C, H, W) values of the frame
        boxes: (M,) `BBOX_dtype` in pixels of the frame; None if the time is not labelled
    """

    name: str
    time: int
    frame: np.ndarray
    boxes: np.ndarray | None


def rate_figure(surveys: Sequence[FileSurvey], title: str) -> "Figure":
    """Draw the activity in files: the event rate of recordings, or the share of active pixels of tensor files.

    Up to six files are drawn as curves over time, with marks at the labelled times. If there are more files, each file
    is drawn as one point.

    Args:
        surveys: statistics of the files, which are all recordings or all tensor files.
        title: title of the figure.
    """
    if len(surveys) > MAX_PANELS:
        figure, ((axes,),) = make_panels(title, 1, 1, (9.6, 4.8))
        _draw_files(axes, surveys)
        return figure
    figure, rows = make_panels(title, len(surveys), 1, (9.6, 1.2 + 2.4 * len(surveys)))
    for (axes,), survey in zip(rows, surveys, strict=True):
        if len(surveys) > 1:
            axes.set_title("/".join([*filter(None, [survey.file.split]), survey.file.path.name]), loc="left", size=10)
        _draw_curve(axes, survey)
        axes.set_xlabel("time (s)")
    return figure


def boxes_figure(labels: LabelStatistics, names: Mapping[int, str], data: DataConfig, title: str) -> "Figure":
    """Draw the width and height of each box as a point, and the number of boxes per class.

    The figure also shows which sizes are too small for the evaluation, and the limits between COCO's small, medium and
    large boxes.

    Args:
        labels: statistics of the labels of one or several files.
        names: class names by id.
        data: settings with `min_box_diag` and `min_box_side`, the smallest boxes that are evaluated.
        title: title of the figure.
    """
    figure, ((sizes, counts),) = make_panels(title, 1, 2, (11, 6), width_ratios=(2.2, 1))
    _draw_sizes(sizes, labels, data)
    found = labels.class_counts()
    labels_of = [names.get(key, f"class {key}") for key in found]
    bars = counts.barh(labels_of, list(found.values()), color=[_class_colour(index) for index in range(len(found))])
    counts.bar_label(bars, labels=[f"{count:,}" for count in found.values()], padding=3)
    counts.margins(x=0.25)
    counts.set_ylim(max(len(found), 5) - 0.4, -0.6)
    counts.set(xlabel="boxes", title="boxes per class")
    counts.grid(axis="y", visible=False)
    return figure


def samples_figure(samples: Sequence[Sample], names: Mapping[int, str], title: str) -> "Figure":
    """Draw frames with their boxes, four per row.

    Args:
        samples: the frames; if empty, the figure contains the text "no data".
        names: class names by id.
        title: title of the figure.
    """
    from matplotlib.patches import Patch

    from detector.visualization.drawing import OFF_COLOR, ON_COLOR

    columns, rows = min(COLUMNS, len(samples)) or 1, -(-len(samples) // COLUMNS) or 1
    shape = samples[0].frame.shape if samples else (1, 3, 4)
    several = len({sample.name for sample in samples}) > 1
    size = 4.0 * columns, (4.0 * shape[1] / shape[2] + (0.45 if several else 0.25)) * rows + 0.8
    figure, panels = make_panels(title, rows, columns, size)
    ids = sorted({int(key) for sample in samples if sample.boxes is not None for key in sample.boxes["class_id"]})
    colours = {key: _class_colour(index) for index, key in enumerate(ids)}
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, sample in zip(panels.flat, samples, strict=False):
        _draw_sample(axes, sample, colours)
        text = f"{sample.time / 1e6:.2f} s" + ("" if sample.boxes is None else f", boxes: {len(sample.boxes)}")
        axes.set_title(f"{shorten(sample.name, 44)}\n{text}" if several else text, fontsize="medium")
    if not samples:
        panels[0, 0].text(0.5, 0.5, "no data", ha="center")
    inks = {"ON": ON_COLOR, "OFF": OFF_COLOR}
    handles = [Patch(color="#{:02x}{:02x}{:02x}".format(*ink), label=f"{name} events") for name, ink in inks.items()]
    handles += [Patch(fill=False, edgecolor=colours[key], lw=2, label=names.get(key, f"class {key}")) for key in ids]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _draw_curve(axes: Any, survey: FileSurvey) -> None:
    times, values, name = _series(survey)
    axes.set_ylabel(name)
    if not times.size:
        empty = survey.events is None or not survey.events.num_events
        axes.text(0.5, 0.5, "no events" if empty else "all events at one time", transform=axes.transAxes, ha="center")
        return
    size = -(-times.size // MAX_POINTS)  # points per group
    starts = np.arange(0, times.size, size)
    counts = np.diff(np.append(starts, times.size))
    means = np.add.reduceat(values, starts) / counts
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    axes.fill_between(times[starts], low, high, color=EVENTS, alpha=0.25, lw=0)
    axes.plot(times[starts], means, color=EVENTS, lw=1.2)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    if survey.labels is not None and survey.labels.times.size:
        # Labelled times are drawn below 0, where they cover no curve.
        marks = survey.labels.times / 1e6
        axes.vlines(marks, -0.06, -0.01, transform=axes.get_xaxis_transform(), color=LABELS, lw=0.8, clip_on=False)
        axes.tick_params(axis="x", pad=10)
        axes.plot([], [], color=LABELS, marker="|", ls="", markersize=9, label=f"labelled times ({marks.size:,})")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), fontsize="small", frameon=False)


def _draw_files(axes: Any, surveys: Sequence[FileSurvey]) -> None:
    """Draw one point per file at its median activity, with an error bar from the 5th to the 95th percentile."""
    for split in dict.fromkeys(survey.file.split for survey in surveys):
        indices = [index for index, survey in enumerate(surveys) if survey.file.split == split]
        values = [_series(surveys[index])[1] for index in indices]
        low, middle, high = np.transpose([np.percentile(v, (5, 50, 95)) if v.size else np.zeros(3) for v in values])
        colour = SPLIT_COLOURS.get(split or "", COLOURS[6])
        errors = [middle - low, high - middle]
        axes.errorbar(indices, middle, errors, fmt="o", ms=4, lw=1, color=colour, label=split or "files")
    name = _series(surveys[0])[2].replace("\n", " ")
    axes.set(xlabel="file, by split and name", ylabel=f"{name}\nmedian, 5 to 95 % of the time")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(surveys) <= MAX_NAMES:
        names = [shorten(survey.file.path.stem, 24) for survey in surveys]
        axes.set_xticks(range(len(surveys)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize="small")
    axes.figure.legend(loc="outside right upper", frameon=False)


def _series(survey: FileSurvey) -> tuple[np.ndarray, np.ndarray, str]:
    """Return times in seconds, the activity (event rate or active pixels) at these times, and its axis label."""
    if survey.events is None:
        return survey.sample_times / 1e6, 100 * survey.active, "active pixels\nof a frame (%)"
    bins, rates = survey.events.curve
    return bins / 1e6, rates / 1e3, "event rate\n(1000 events/s)"


def _draw_sizes(axes: Any, labels: LabelStatistics, data: DataConfig) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    rng = np.random.default_rng(0)
    shown = (labels.sizes > 0).all(axis=1)
    for index, key in enumerate(labels.class_counts()):
        sizes = labels.sizes[shown & (labels.class_ids == key)]
        if len(sizes) > MAX_BOXES:
            sizes = rng.choice(sizes, MAX_BOXES, replace=False)
        axes.scatter(*sizes.T, s=9, alpha=0.35, lw=0, color=_class_colour(index), rasterized=True)
    axes.set(title="box sizes", xlabel="box width (network px)", ylabel="box height (network px)")
    low, high = _limits(labels.sizes[shown], data)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    w = np.geomspace(low, high, 400)
    for side, text in ((32, "small / medium"), (96, "medium / large")):
        axes.plot(w, side**2 / w, color="0.45", lw=1, ls="--")
        if low < side < high:
            x, y = high * 0.96, side**2 / high * 1.06
            axes.text(x, y, text, rotation=-45, rotation_mode="anchor", ha="right", va="bottom", fontsize="small")
    inside = np.sqrt(np.clip(data.min_box_diag**2 - w**2, 0, None))
    smallest = np.where(w < data.min_box_side, high, np.maximum(inside, data.min_box_side))
    label = f"dropped by the protocol: diagonal < {data.min_box_diag:g} px or side < {data.min_box_side:g} px"
    axes.fill_between(w, low, np.maximum(smallest, low), color="0.5", alpha=0.18, lw=0, label=label)
    axes.plot([], [], color="0.45", lw=1, ls="--", label="COCO areas, 32² and 96² px")
    octaves = [2.0**k for k in range(13) if low <= 2**k <= high]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(octaves))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False, fontsize="small")


def _limits(sizes: np.ndarray, data: DataConfig) -> tuple[float, float]:
    """Return the lower and upper limit of both axes, so that all boxes and the smallest evaluated sizes are visible."""
    sides = sizes if sizes.size else np.array([[10.0, 100.0]])
    low = min(float(sides.min()), *(limit for limit in (data.min_box_side, data.min_box_diag) if limit > 0), 8.0)
    return max(low, 1.0) / 1.25, max(float(sides.max()), data.min_box_diag, 64.0) * 1.25


def _draw_sample(axes: Any, sample: Sample, colours: Mapping[int, str]) -> None:
    from matplotlib.patches import Rectangle

    from detector.visualization.drawing import events_to_image

    height, width = sample.frame.shape[1:]
    image = events_to_image(_pool(_two_polarities(sample.frame), max(1, width // IMAGE_WIDTH)))
    axes.imshow(image.permute(1, 2, 0).numpy(), extent=(0, width, height, 0), interpolation="nearest")
    for box in () if sample.boxes is None else sample.boxes:
        corner = float(box["x"]), float(box["y"])
        colour = colours[int(box["class_id"])]
        axes.add_patch(Rectangle(corner, float(box["w"]), float(box["h"]), fill=False, ec=colour, lw=1.4))
    axes.add_patch(Rectangle((0, 0), width, height, fill=False, ec="0.7", lw=1))


def _two_polarities(frame: np.ndarray) -> np.ndarray:
    """Convert a frame to an even number of non-negative channels, which are OFF and ON events in turn.

    A frame that is already in this form is only converted to float32. A frame with negative values or an odd number of
    channels is reduced to two channels: the absolute sum of its negative values, and the sum of its positive values.
    """
    values = frame.astype(np.float32)
    if len(values) % 2 == 0 and values.min() >= 0:
        return values
    return np.stack([np.clip(-values, 0, None).sum(axis=0), np.clip(values, 0, None).sum(axis=0)])


def _pool(frame: np.ndarray, size: int) -> np.ndarray:
    """Sum blocks of `size` x `size` pixels, so that single events remain visible in a small image."""
    channels, height, width = frame.shape
    rows, columns = height // size, width // size
    return frame[:, : rows * size, : columns * size].reshape(channels, rows, size, columns, size).sum(axis=(2, 4))


def _class_colour(index: int) -> str:
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]
