"""Statistics of recordings and datasets as text, the output of `evforge inspect`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detector.config.groups import DataConfig
from detector.data.builder.label_counts import report_lines
from detector.data.check.statistics import BIN_US, EventStatistics, LabelStatistics
from detector.data.check.survey import FileSurvey
from evforge.display.tables import text_table

__all__ = ["box_text", "dataset_text", "file_text", "survey_text"]

SMALL, LARGE = 32**2, 96**2
"""Lower and upper limit of the area of COCO's medium boxes, in square pixels."""


def survey_text(path: Path, surveys: Sequence[FileSurvey], names: Mapping[int, str], data: DataConfig) -> str:
    """Format the statistics of a path: one file or a table of splits, then box sizes, then labels that are not used.

    Args:
        path: the inspected path.
        surveys: statistics of at least one file of the path.
        names: class names by id.
        data: settings with `min_box_diag` and `min_box_side`, the smallest boxes that are evaluated.
    """
    several = len(surveys) > 1
    parts = [_common_text(path, surveys), dataset_text(surveys, names)] if several else [file_text(surveys[0], names)]
    labels = [survey.labels for survey in surveys if survey.labels]
    if labels:
        parts.append(box_text(LabelStatistics.join(labels), data))
    counts = [survey.label_counts for survey in surveys if survey.label_counts]
    parts.append("\n".join(report_lines(counts, faults_only=True)))
    return "\n\n".join(filter(None, parts))


def file_text(survey: FileSurvey, names: Mapping[int, str]) -> str:
    """Format the statistics of a file, one fact per line.

    Args:
        survey: statistics of the file.
        names: class names by id.
    """
    height, width = survey.sensor_size
    start, end = survey.span
    facts = [
        ("format", survey.format),
        ("sensor", f"{width} x {height} px"),
        ("time", f"{start / 1e6:.3f} to {end / 1e6:.3f} s, {survey.seconds:.3f} s long"),
        *(_tensor_facts(survey) if survey.header else _event_facts(survey)),
        *_label_facts(survey, names),
    ]
    return _facts_text(survey.file.path, facts)


def dataset_text(surveys: Sequence[FileSurvey], names: Mapping[int, str]) -> str:
    """Format a table with one row per split, and a row for all files if there are several splits.

    Args:
        surveys: statistics of the files.
        names: class names by id.
    """
    labels = [survey.labels for survey in surveys if survey.labels]
    ids = sorted(set().union(*(part.class_counts() for part in labels)))
    classes = [_class_name(key, names) for key in ids]
    head = ["split", "files", "hours", "frames", "labelled times", "label rate", "boxes", *classes, "active px"]
    splits = dict.fromkeys(survey.file.split or "-" for survey in surveys)
    groups = {split: [survey for survey in surveys if (survey.file.split or "-") == split] for split in splits}
    if len(groups) > 1:
        groups["all"] = list(surveys)
    rows = [_split_cells(split, group, ids) for split, group in groups.items()]
    return text_table([head, *rows], numbers=range(1, len(head)))


def box_text(labels: LabelStatistics, data: DataConfig) -> str:
    """Format the distribution of box sizes, the share of boxes too small for the evaluation, and shares by COCO size.

    Args:
        labels: statistics of the labels of one or several files.
        data: settings with `min_box_diag` and `min_box_side`, the smallest boxes that are evaluated.
    """
    w, h = labels.sizes[(labels.sizes > 0).all(axis=1)].T.astype(np.float64)
    if not w.size:
        return "box sizes: no boxes"
    columns = {"width": w, "height": h, "diagonal": np.hypot(w, h), "height / width": h / w}
    rows = [[name, *(f"{value:.3g}" for value in np.percentile(c, (5, 50, 95)))] for name, c in columns.items()]
    dropped = (np.hypot(w, h) < data.min_box_diag) | (np.minimum(w, h) < data.min_box_side)
    area = w * h
    small, large = np.mean(area < SMALL), np.mean(area >= LARGE)
    return "\n".join(
        [
            text_table([["box size (network px)", "5 %", "50 %", "95 %"], *rows], numbers=range(1, 4)),
            f"below {data.min_box_diag:g} px diagonal or {data.min_box_side:g} px side, dropped by the protocol "
            f"(data.min_box_diag, data.min_box_side): {dropped.mean():.1%}",
            f"COCO sizes: {small:.1%} small (area < 32² px), {1 - small - large:.1%} medium, "
            f"{large:.1%} large (from 96² px)",
        ]
    )


def _common_text(path: Path, surveys: Sequence[FileSurvey]) -> str:
    """Format facts about all files of a dataset: sensor sizes, formats, and the range of event rates."""
    sizes = {f"{survey.sensor_size[1]} x {survey.sensor_size[0]} px" for survey in surveys}
    kinds = {_tensor_facts(survey)[0][1] if survey.header else survey.format for survey in surveys}
    facts = [("sensor", ", ".join(sorted(sizes))), ("files", "; ".join(sorted(kinds)))]
    rates = [survey.events.mean_rate for survey in surveys if survey.events and survey.events.mean_rate]
    if rates:
        median = _rate(float(np.median(rates)))
        facts.append(("event rate", f"{_rate(min(rates))} to {_rate(max(rates))} mean of a file, median {median}"))
    return _facts_text(path, facts)


def _facts_text(path: Path, facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join([str(path), *(f"  {name:<14} {text}" for name, text in facts)])


def _tensor_facts(survey: FileSurvey) -> list[tuple[str, str]]:
    assert survey.header is not None
    frames, channels, height, width = survey.header.shape
    kind = f"{survey.header.preprocess or 'unknown preprocessing'}, {channels} x {height} x {width} "
    return [
        ("tensors", f"{kind}{survey.header.dtype}, {survey.delta_t / 1000:g} ms per frame"),
        ("frames", f"{frames:,}"),
        ("active px", f"{survey.active.mean():.2%} of a frame (mean of {survey.active.size} frames)"),
    ]


def _event_facts(survey: FileSurvey) -> list[tuple[str, str]]:
    events = survey.events
    assert events is not None
    edges = f"{survey.edges[0]:,} rising, {survey.edges[1]:,} falling" if any(survey.edges) else "none"
    if not events.num_events:
        return [("events", "none"), ("triggers", edges)]
    on = events.num_on / events.num_events
    gap_start, gap = events.gap
    return [
        ("events", f"{events.num_events:,}: ON {on:.1%}, OFF {1 - on:.1%}"),
        ("event rate", _rates(events)),
        ("longest gap", f"{gap / 1000:.3f} ms without events, from {gap_start / 1e6:.3f} s"),
        ("active px", f"{events.share_ever_active:.1%} ever, {survey.active.mean():.2%} in 50 ms (mean)"),
        ("triggers", edges),
        *([("faulty events", str(survey.faults))] if survey.faults.total else []),
    ]


def _label_facts(survey: FileSurvey, names: Mapping[int, str]) -> list[tuple[str, str]]:
    labels = survey.labels
    if labels is None:
        return [("labels", f"none, allowed: {survey.file.allowed_labels}")]
    each = len(labels.sizes) / max(1, labels.times.size)
    text = f"{len(labels.sizes):,} boxes at {labels.times.size:,} labelled times, {each:.3g} each"
    facts = [("labels", f"{survey.file.labels_path.name}: {text}")]
    if not labels.times.size:
        return facts
    first, last = labels.times[0] / 1e6, labels.times[-1] / 1e6
    rate = f"-, at {first:.3f} s"
    if labels.rate_hz is not None:
        interval = float(np.median(labels.intervals)) / 1000
        rate = f"{labels.rate_hz:.3g} Hz (median interval {interval:g} ms), {first:.3f} to {last:.3f} s"
    counts = [f"{_class_name(key, names)}: {count:,}" for key, count in labels.class_counts().items()]
    return [
        *facts,
        ("label rate", rate),
        ("boxes", ", ".join(counts) or "none"),
        ("tracks", f"{labels.num_tracks:,}"),
    ]


def _split_cells(split: str, surveys: Sequence[FileSurvey], ids: Sequence[int]) -> list[str]:
    parts = [survey.labels for survey in surveys if survey.labels]
    labels = LabelStatistics.join(parts) if parts else None
    counts = labels.class_counts() if labels else {}
    active = np.concatenate([survey.active for survey in surveys])
    return [
        split,
        f"{len(surveys):,}",
        f"{sum(survey.seconds for survey in surveys) / 3600:.3f}",
        f"{sum(survey.num_frames for survey in surveys):,}",
        f"{labels.times.size:,}" if labels else "-",
        f"{labels.rate_hz:.3g} Hz" if labels and labels.rate_hz else "-",
        f"{len(labels.sizes):,}" if labels else "-",
        *(f"{counts.get(key, 0):,}" for key in ids),
        f"{active.mean():.2%}" if active.size else "-",
    ]


def _rates(events: EventStatistics) -> str:
    """Format the mean event rate, and the peak rate if the recording is long enough to contain a complete time bin."""
    if events.mean_rate is None or events.first_t is None or events.last_t is None:
        return "-"
    if events.last_t - events.first_t < 2 * BIN_US:
        return f"{_rate(events.mean_rate)} mean"
    peak = int(np.argmax(events.counts))
    time = max(events.first_t, events.start + peak * BIN_US) / 1e6
    return f"{_rate(events.mean_rate)} mean, {_rate(events.rates[peak])} peak in 50 ms, at {time:.2f} s"


def _rate(events_per_second: float) -> str:
    for unit, factor in (("Mev/s", 1e6), ("kev/s", 1e3)):
        if events_per_second >= factor:
            return f"{events_per_second / factor:.3g} {unit}"
    return f"{events_per_second:.3g} ev/s"


def _class_name(key: int, names: Mapping[int, str]) -> str:
    return names.get(key, f"class {key}")
