"""`evforge anchors`: how candidate lists of anchors cover the training labels, before anything is trained."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from detector.anchors import ANCHOR_LISTS
from detector.config import Config
from detector.coverage.anchor_coverage import SIZES, THRESHOLDS, AnchorPyramid, Coverage, LabelBoxes
from detector.data.label_map import class_names
from detector.utils.atomic_write import atomic_write
from detector.utils.decoration import decoration
from evforge.anchors.candidates import AnchorList, coverage_of, fit_list, list_name, training_boxes
from evforge.anchors.figure import coverage_figure
from evforge.display.tables import text_table
from evforge.space.anchor_options import ANCHOR_LIST, fit_count
from evforge.space.space import load_space
from evforge.training.run_folder import unique_folder

__all__ = ["anchors", "coverage_table"]

SHOWN = (0.3, 0.4, 0.5, 0.6, 0.7)
"""IoU thresholds of the table; the CSV file holds all."""

DEFAULT_FITS = (6, 9)
WORTH_A_STRIDE = 0.1
"""A finer grid is recommended if it covers this share of the boxes more."""


def anchors(config: Config, lists: Sequence[str] | None = None, output: str | None = None) -> Path:
    """Print, draw and write down how lists of anchors cover the training labels.

    Args:
        config: names the dataset, and what of its labels counts; the anchors' geometry and thresholds.
        lists: names, `fit:K`, literal lists or files of search spaces; if not given, the settings' own list, all named
            ones and two fitted ones.
        output: folder to write to; a new one in `train.storage` if not given.

    Returns:
        The folder.

    Raises:
        ValueError: a list is none, or the dataset does not fit the settings.
        FileNotFoundError: the dataset or a search space is not there.
    """
    labels = training_boxes(config)
    candidates = _candidates(labels, config, lists)
    found = {name: coverage_of(labels, config, pairs) for name, pairs in candidates.items()}
    height, width = labels.height, labels.width
    print(f"{len(labels):,} training boxes of {config.data.dataset_path} in {width}x{height} pixels\n")
    print(coverage_table(found, candidates, config))
    print(f"\nshare of boxes with an anchor at IoU {config.anchors.fg_iou_threshold:g}, by class and size\n")
    print(_group_table(found, class_names(config.data)))
    best = max(found, key=lambda name: found[name].covered + found[name].mean_iou)
    print(f"\n{_advice(labels, config, best, candidates[best], found[best])}")
    folder = Path(output) if output else unique_folder(config.train.storage, "anchors")
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "anchors.csv", found, class_names(config.data))
    curves = {name: coverage.recall for name, coverage in found.items()}
    shapes = _shapes(config, candidates[best])
    title = f"{len(labels):,} training boxes of {config.data.dataset_path}"
    with decoration(str(folder / "anchors.png")), atomic_write(folder / "anchors.png") as part:
        sizes = labels.boxes[:, 2:]
        figure = coverage_figure(curves, config.anchors.fg_iou_threshold, sizes, shapes, best, title)
        figure.savefig(part, format="png")
    return folder


def coverage_table(found: Mapping[str, Coverage], candidates: Mapping[str, AnchorList], config: Config) -> str:
    """A line for each list.

    Args:
        found: how each list covers the boxes.
        candidates: the lists.
        config: the thresholds that they were measured with.
    """
    fg, bg = config.anchors.fg_iou_threshold, config.anchors.bg_iou_threshold
    recalls = [f"IoU {threshold:g}" for threshold in SHOWN]
    lines = [["list", "anchors", *recalls, "mean IoU", f"at {fg:g}", "positive a box", f"ignored of >= {bg:g}"]]
    for name, coverage in found.items():
        shares = [coverage.recall[THRESHOLDS.index(threshold)] for threshold in SHOWN]
        lines.append(
            [
                name,
                str(len(AnchorPyramid(candidates[name], 1, 1, 1).pairs)),
                *(f"{share:.3f}" for share in shares),
                f"{coverage.mean_iou:.3f}",
                f"{coverage.covered:.3f}",
                f"{coverage.positives:.2f}",
                f"{coverage.ignored_share:.0%}",
            ]
        )
    return text_table(lines, numbers=range(1, len(lines[0])))


def _candidates(labels: LabelBoxes, config: Config, lists: Sequence[str] | None) -> dict[str, AnchorList]:
    """Lists by short names."""
    if lists is None:
        fits = [f"fit:{count}" for count in DEFAULT_FITS if count <= len(labels)]
        own = config.anchors.anchor_list
        first: dict[str, AnchorList] = {} if isinstance(own, str) else {"settings": own}
        return {**first, **_candidates(labels, config, [*ANCHOR_LISTS, *fits])}
    found: dict[str, AnchorList] = {}
    for text in lists:
        if text.endswith((".yaml", ".yml")):
            options = _space_options(text)
        else:
            options = [json.dumps({"fit": _number(text)}) if text.startswith("fit:") else text]
        for option in options:
            count = fit_count(option)
            if count is not None:
                found[f"fit:{count}"] = fit_list(labels, config, count)
            else:
                checked = config.with_overrides({ANCHOR_LIST: option}).anchors.anchor_list
                found[list_name(checked)] = checked
    return found


def _space_options(path: str) -> list[str]:
    domain = load_space(path).domains.get(ANCHOR_LIST)
    if domain is None:
        raise ValueError(f"{path}: searches no {ANCHOR_LIST}, allowed for --lists: a space that does")
    return list(domain.options)


def _number(text: str) -> int:
    digits = text.removeprefix("fit:")
    if not digits.isdecimal() or int(digits) < 1:
        raise ValueError(f"--lists: got {text!r}, allowed: fit:K with a number of anchors, such as fit:6")
    return int(digits)


def _group_table(found: Mapping[str, Coverage], classes: Sequence[str]) -> str:
    """A line for each class and size of which there are boxes, a column for each list."""
    lines = [["class", "size", "boxes", *found]]
    for (name, size), part in _parts(found, classes).items():
        (boxes,) = {coverage.num_boxes for coverage in part.values()}
        if boxes:
            lines.append([name, size, f"{boxes:,}", *(f"{coverage.covered:.3f}" for coverage in part.values())])
    return text_table(lines, numbers=range(2, len(lines[0])))


def _parts(found: Mapping[str, Coverage], classes: Sequence[str]) -> dict[tuple[str, str], dict[str, Coverage]]:
    """(class, size) -> list -> its coverage; both may be "all"."""
    sizes = [None, *SIZES]
    labels = [(None, "all"), *enumerate(classes, start=1)] if len(classes) > 1 else [(1, classes[0])]
    return {
        (name, size or "all"): {key: coverage.part(label, size) for key, coverage in found.items()}
        for label, name in labels
        for size in sizes
    }


def _advice(labels: LabelBoxes, config: Config, name: str, best: AnchorList, coverage: Coverage) -> str:
    """The best list as a configuration, and a finer grid if that would help."""
    value = best if isinstance(best, str) else json.dumps([list(pair) for pair in best])
    base_size = config.anchors.base_size
    lines = [f"best list: {name}; in a configuration:", "anchors:", f"  base_size: {base_size:g}"]
    lines.append(f"  anchor_list: {value}")
    if config.model.first_stride == 16:
        changes = {"model.first_stride": 8, "model.num_levels": config.model.num_levels + 1}
        finer = coverage_of(labels, config.with_overrides(changes), best).covered
        if finer >= coverage.covered + WORTH_A_STRIDE:
            flags = " and ".join(f"{key} {value}" for key, value in changes.items())
            lines.append(f"{flags} would cover {finer:.0%} of the boxes instead of {coverage.covered:.0%}")
    return "\n".join(lines)


def _shapes(config: Config, anchors: AnchorList) -> list:
    """(a, 2) widths and heights of each level."""
    pyramid = AnchorPyramid(anchors, config.anchors.base_size, config.model.first_stride, config.model.num_levels)
    return [pyramid.shapes * 2**level for level in range(config.model.num_levels)]


def _write_csv(path: Path, found: Mapping[str, Coverage], classes: Sequence[str]) -> None:
    recalls = [f"recall_{threshold:g}" for threshold in THRESHOLDS]
    head = ["list", "class", "size", "boxes", *recalls, "mean_iou", "covered", "positives", "ignored_share"]
    with atomic_write(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for (label, size), coverages in _parts(found, classes).items():
            for name, coverage in coverages.items():
                figures = (*coverage.recall, coverage.mean_iou, coverage.covered, coverage.positives)
                numbers = [f"{value:.6g}" for value in (*figures, coverage.ignored_share)]
                writer.writerow([name, label, size, coverage.num_boxes, *numbers])
