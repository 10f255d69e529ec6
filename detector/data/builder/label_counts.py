"""Count the labels of a recording that are used and not used, and find likely causes if many are not used."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from detector.config.label_timing import TimeUnit
from detector.data.builder.split_counts import SplitCounts, completely_outside
from detector.events.frames import Frames
from detector.utils.corners import crop_corners, is_large, to_corners

__all__ = ["LabelCounts", "count_labels", "layout_cause", "repeated_rows", "report_lines", "size_cause", "time_cause"]

LARGE_SHARE = 0.05
"""A cause is reported if at least this share of the boxes has an unexpected layout."""

OUTSIDE_SHARE = 0.02
"""A cause is reported if at least this share of the labelled times is outside the recording."""

TRIMMED = 0.01
"""Share of the labelled times that is ignored at each end, because they may be outliers."""

FASTEST_US = 1_500
"""Shortest plausible interval between labelled times in microseconds.

A shorter interval means that the times are in a longer unit, such as milliseconds.
"""

UNITS: dict[TimeUnit, tuple[str, float]] = {
    "s": ("seconds", 1e6),
    "ms": ("milliseconds", 1e3),
    "us": ("microseconds", 1.0),
    "ns": ("nanoseconds", 1e-3),
}
"""Name of each unit, and its length in microseconds."""

IMAGE_SIZES = ((240, 180), (304, 240), (346, 260), (640, 480), (1280, 720), (1280, 800), (1440, 1080), (1920, 1080))
"""Widths and heights of common cameras, from small to large."""

FILLED = 0.9
"""Labels were probably made for images of a size if they reach at least this share of its width or height."""

MAX_CAUSES = 10

Boxes = np.ndarray | Mapping[str, np.ndarray]
"""Structured boxes, or a dict from field name to column."""


@dataclass(frozen=True)
class LabelCounts:
    """Number of boxes of a label file, and numbers of boxes that are not used, one number for each reason.

    A box can be counted for several reasons.

    Args:
        source: path of the label file
        boxes: number of all boxes, including boxes of class "empty"
        times: number of distinct labelled times
        kept: boxes that belong to a frame of the dataset and are not completely outside the sensor
        before: boxes at or before the start of the first frame
        after: boxes after the end of the last frame
        uncut: boxes inside the recording but in none of its cuts
        superseded: number of labelled times that are not used because the same frame has a later labelled time
        repeated: boxes with the same time, position, size and class as an earlier box
        unknown: boxes with a class id that is not in the label map
        off_sensor: boxes that are completely outside the sensor
        no_area: boxes without width or height
        small: boxes that `data.min_box_diag` or `data.min_box_side` exclude from training and mAP
        causes: likely causes of the faults, one line of text per cause
        label_format: name of the format of the labels
        notes: how the labels were read, one text per fact
        splits: numbers of frames and labels of each split to which the recording belongs
    """

    source: str
    boxes: int = 0
    times: int = 0
    kept: int = 0
    before: int = 0
    after: int = 0
    uncut: int = 0
    superseded: int = 0
    repeated: int = 0
    unknown: int = 0
    off_sensor: int = 0
    no_area: int = 0
    small: int = 0
    causes: tuple[str, ...] = ()
    label_format: str = ""
    notes: tuple[str, ...] = ()
    splits: tuple[SplitCounts, ...] = ()

    @property
    def faulty(self) -> bool:
        """Whether the labels are probably faulty.

        This is the case if `causes` has an entry, or if `before`, `after`, `repeated`, `unknown`, `off_sensor` or
        `no_area` is above 0.
        """
        return bool(self.causes) or any(
            (self.before, self.after, self.repeated, self.unknown, self.off_sensor, self.no_area)
        )


def count_labels(
    labels: np.ndarray,
    source: str,
    grid: Frames,
    events: tuple[int, int] | None = None,
    *,
    cuts: Sequence[Frames] | None = None,
    names: Mapping[int, str] | None = None,
    sensor_size: tuple[int, int] | None = None,
    scale: float = 1.0,
    min_box_diag: float = 0.0,
    min_box_side: float = 0.0,
    time_unit: TimeUnit | None = None,
) -> LabelCounts:
    """Count the labels of a file that are not used, separately for each reason.

    Args:
        labels: (M,) `BBOX_dtype` of the whole file, sorted by t.
        source: path of the label file, for reports.
        grid: frames of the recording.
        events: times of the first and last event in microseconds. If None, start and end of `grid` are used.
        cuts: frames of each part of the recording that is kept. If None, the whole recording is kept.
        names: dict from class id to name. If None, all class ids count as known.
        sensor_size: height and width of the sensor in pixels, if known.
        scale: network pixels per sensor pixel.
        min_box_diag: boxes with a smaller diagonal in network pixels are counted as small.
        min_box_side: boxes with a smaller width or height in network pixels are counted as small.
        time_unit: unit in which the label times were read, for the search for causes; microseconds if None.
    """
    t = labels["t"]
    inside = grid.inside(t)
    kept = inside if cuts is None else np.logical_or.reduce([cut.inside(t) for cut in cuts])
    times = np.unique(t[kept])
    empty = [key for key, name in (names or {}).items() if name == "empty"]
    boxes = labels[~np.isin(labels["class_id"], empty)]
    corners = to_corners(boxes)
    area = (boxes["w"] > 0) & (boxes["h"] > 0)
    off = completely_outside(boxes, sensor_size)
    causes = [time_cause(labels, grid, events, time_unit)]
    if sensor_size is not None:
        corners = crop_corners(corners, *sensor_size)
        causes.append(layout_cause(boxes, sensor_size) or size_cause(boxes, sensor_size))
    w, h = (corners[:, 2:] - corners[:, :2]).T * scale
    small = area & ~off & ~is_large(w, h, min_box_diag, min_box_side)
    return LabelCounts(
        source,
        boxes=labels.size,
        times=np.unique(t).size,
        kept=int((kept & ~completely_outside(labels, sensor_size)).sum()),
        before=int((t <= grid.first_t).sum()),
        after=int((t > grid.end).sum()),
        uncut=int((inside & ~kept).sum()),
        superseded=times.size - np.unique(grid.find(times)).size,
        repeated=repeated_rows(labels).size,
        unknown=0 if names is None else int((~np.isin(labels["class_id"], list(names))).sum()),
        off_sensor=int(off.sum()),
        no_area=int((~area).sum()),
        small=int(small.sum()),
        causes=tuple(cause for cause in causes if cause is not None),
    )


def repeated_rows(labels: Boxes) -> np.ndarray:
    """Return the indices of the rows that equal an earlier row in all fields except track and confidence."""
    columns = [labels[name] for name in ("t", "x", "y", "w", "h", "class_id")]
    order = np.lexsort(columns)
    same = [column[order][1:] == column[order][:-1] for column in columns]
    return np.sort(order[1:][np.logical_and.reduce(same)])


def time_cause(
    labels: Boxes, grid: Frames, events: tuple[int, int] | None = None, time_unit: TimeUnit | None = None
) -> str | None:
    """Find a likely cause if label times do not fit a recording.

    Args:
        labels: boxes in any order.
        grid: frames of the recording.
        events: times of the first and last event in microseconds. If None, start and end of `grid` are used.
        time_unit: unit in which the label times were read; microseconds if None.

    Returns:
        The cause as a line of text, None if the label times show no fault.
    """
    times = np.unique(labels["t"])
    if not times.size:
        return None
    events = events or (grid.first_t, grid.end)
    # Times are counted, not boxes, because a scene may begin or end with few boxes. A time exactly at the start of
    # the recording does not count as outside.
    outside = float(np.mean((times < grid.first_t) | (times > grid.end)))
    cause = _unit(times, grid, events, outside, time_unit or "us")
    if cause is not None or outside < OUTSIDE_SHARE:
        return cause
    trim = int(times.size * TRIMMED)
    trimmed = times[trim : times.size - trim]
    ends = [(int(part[0]), int(part[-1])) for part in (times, trimmed)]
    found = [_offset(*end, grid, events) for end in ends]
    return next((cause for cause in found if cause is not None), None) or (
        f"labels last {(times[-1] - times[0]) / 1e6:.3f} s, events {(events[1] - events[0]) / 1e6:.3f} s: no constant "
        "offset fits, the recording may be cut short or another one"
    )


def _unit(times: np.ndarray, grid: Frames, events: tuple[int, int], outside: float, given: TimeUnit) -> str | None:
    """Check whether label times are in another unit than `given`. Return the cause as a line of text, or None.

    There are two conditions. The times are implausible in the given unit: either their intervals are too short, or most
    times are outside the recording (the share is `outside`). And the times fit the recording in another unit.
    """
    if times.size < 2:
        return None
    interval, length = float(np.median(np.diff(times))), events[1] - events[0]
    fits = []
    length_of_given = UNITS[given][1]
    for unit, (name, length_of_unit) in UNITS.items():
        if unit == given:
            continue
        factor = length_of_unit / length_of_given
        span = (float(times[-1]) - float(times[0])) * factor
        implausible = interval < FASTEST_US if factor > 1 else outside > 0.5 and span >= 0.1 * length
        if implausible and interval * factor >= FASTEST_US and span <= 1.05 * length + grid.delta_t:
            fits.append((span, unit, name))
    if not fits:
        return None
    _, unit, name = max(fits)
    first, last = (float(time) / length_of_given for time in (times[0], times[-1]))
    read = "" if given == "us" else f" and not {UNITS[given][0]}"
    return (
        f"label times {first:.12g} to {last:.12g} look like {name}{read}, events last {length / 1e6:.6g} s: "
        f"give --label_time_unit {unit}"
    )


def _offset(first: int, last: int, grid: Frames, events: tuple[int, int]) -> str | None:
    """Find a constant offset that moves all labels into the recording.

    `first` and `last` are the times of the first and last label. Return the cause as a line of text, None if there is
    no such offset.
    """
    # The offset is in (grid.first_t - first, grid.end - last]. This range is narrow if labels fill the recording.
    least, most = grid.first_t - first + 1, grid.end - last
    slack = max(grid.delta_t, (events[1] - events[0]) // 50)
    if least > most + slack:
        return None
    offset = (least + most) // 2
    if events[0] > grid.delta_t and least - slack <= events[0] <= most + slack:
        offset = events[0]
        reason = "as if they counted from its first event"
    elif least <= most:
        reason = f"{least / 1e6:.3f} to {most / 1e6:.3f} s bring all of them inside"
    else:
        reason = "as far as their ranges tell"
    side = "earlier" if offset > 0 else "later"
    return (
        f"labels ({first / 1e6:.3f} to {last / 1e6:.3f} s) seem about {abs(offset) / 1e6:.1f} s {side} than the events "
        f"({events[0] / 1e6:.3f} to {events[1] / 1e6:.3f} s), {reason}: give `build` --label_offset {offset}"
    )


def layout_cause(boxes: Boxes, sensor_size: tuple[int, int]) -> str | None:
    """Check whether boxes have another layout than x, y of the top-left corner and w, h in pixels.

    Args:
        boxes: boxes without frame labels of class "empty".
        sensor_size: height and width of the sensor in pixels.

    Returns:
        The likely layout and its correction as a line of text, None if no other layout is found.
    """
    height, width = sensor_size
    x, y, w, h = (boxes[name].astype(np.float64) for name in "xywh")
    if not x.size:
        return None
    if max(x.max(), y.max(), w.max(), h.max()) <= 1 and min(x.min(), y.min()) >= 0 and w.max() > 0:
        return (
            f"x, y, w, h are at most 1, as if relative to the image: multiply them by its size, {width} x {height} px"
        )
    beyond = (x + w > width + 1) | (y + h > height + 1)
    if beyond.mean() < LARGE_SHARE:
        return None
    if ((w > x) & (h > y) & (w <= width + 1) & (h <= height + 1)).all():
        return "w, h look like the bottom-right corner x2, y2: store the width x2 - x and the height y2 - y"
    centred = (x - w / 2 >= -1) & (y - h / 2 >= -1) & (x + w / 2 <= width + 1) & (y + h / 2 <= height + 1)
    if centred.mean() > 1 - LARGE_SHARE / 5:
        return "x, y look like the centres of the boxes: store their top-left corners, x - w / 2 and y - h / 2"
    return None


def size_cause(boxes: Boxes, sensor_size: tuple[int, int]) -> str | None:
    """Check whether boxes were made for images of another size than the sensor.

    Args:
        boxes: boxes without frame labels of class "empty".
        sensor_size: height and width of the sensor in pixels.

    Returns:
        The likely image size and its correction as a line of text, None if few boxes are completely outside the sensor.
    """
    if not len(boxes["x"]) or completely_outside(boxes, sensor_size).mean() < LARGE_SHARE:
        return None
    height, width = sensor_size
    right, bottom = (float((boxes[start] + boxes[side]).max()) for start, side in ("xw", "yh"))
    if right <= width and bottom <= height:  # boxes with negative coordinates
        return None
    sizes = [
        (w, h)
        for w, h in IMAGE_SIZES
        if right <= w + 1 and bottom <= h + 1 and (right >= FILLED * w or bottom >= FILLED * h)
    ]
    text = f"boxes reach x = {right:.0f}, y = {bottom:.0f}, the sensor has {width} x {height} px: as if made for "
    if not sizes:
        return f"{text}other images or another sensor; `evforge check` lists the boxes"
    w, h = sizes[0]
    return (
        f"{text}images of {w} x {h} px; in this case, multiply x and w by {width / w:.4g}, "
        f"y and h by {height / h:.4g}; `evforge check` lists the boxes"
    )


def report_lines(counts: Sequence[LabelCounts], *, faults_only: bool = False) -> list[str]:
    """Describe how many labels of several recordings are not used, and why.

    Args:
        counts: label counts of each recording.
        faults_only: whether to leave out the numbers `uncut`, `superseded` and `small`, which show no fault.

    Returns:
        Lines of text, an empty list if there is nothing to report.
    """
    total = {
        field.name: sum(getattr(part, field.name) for part in counts)
        for field in fields(LabelCounts)
        if field.type is int
    }
    texts = {
        f"boxes outside the recordings: {total['before']:,} at or before their start, "
        f"{total['after']:,} after their last frame": total["before"] + total["after"],
        "boxes of a class id that is not in the label map: never a target": total["unknown"],
        "boxes completely outside the sensor": total["off_sensor"],
        "boxes without width or height": total["no_area"],
        "boxes equal to an earlier one": total["repeated"],
    }
    superseded = f"of {total['times']:,} labelled times followed by a later one in their frame: only the last counts"
    if not faults_only:
        texts["boxes in none of the cuts"] = total["uncut"]
        texts["boxes under data.min_box_diag or data.min_box_side: not counted in training and mAP"] = total["small"]
        texts[superseded] = total["superseded"]
    lines = [f"  {number:,} {text}" for text, number in texts.items() if number]
    causes = [f"  {part.source}: {cause}" for part in counts for cause in part.causes]
    if len(causes) > MAX_CAUSES:
        causes[MAX_CAUSES:] = [f"  ... and {len(causes) - MAX_CAUSES} more of such recordings"]
    if not lines and not causes:
        return _source_lines(counts)
    return [*_source_lines(counts), f"labels: {total['kept']:,} of {total['boxes']:,} boxes kept", *lines, *causes]


def _source_lines(counts: Sequence[LabelCounts]) -> list[str]:
    """Return lines of text that name the label files, their formats, and how they were read."""
    lines = []
    for label_format, number in Counter(part.label_format for part in counts if part.label_format).items():
        first = next(part.source for part in counts if part.label_format == label_format)
        files = first if number == 1 else f"{number} files, the first {first}"
        lines.append(f"labels in the format {label_format}: {files}")
    notes = [f"  {part.source}: {note}" for part in counts for note in part.notes]
    if len(notes) > MAX_CAUSES:
        notes[MAX_CAUSES:] = [f"  ... and {len(notes) - MAX_CAUSES} more notes"]
    return [*lines, *notes]
