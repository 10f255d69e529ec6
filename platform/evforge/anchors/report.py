"""`evforge anchors`: measures how well anchor lists cover the training labels, before any training."""

import csv
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.anchors import ANCHOR_LISTS
from detector.config import Config
from detector.coverage.anchor_coverage import SIZES, THRESHOLDS, Coverage, LabelBoxes
from detector.data.label_map import class_names
from detector.utils.atomic_write import atomic_write
from evforge.anchors.candidates import AnchorList, coverage_of, fit_list, list_name, pyramid_of, training_boxes
from evforge.anchors.figure import coverage_figure
from evforge.display.figures import save_figure
from evforge.display.json_output import json_text, only_json
from evforge.display.tables import text_table
from evforge.space.anchor_options import ANCHOR_LIST, fit_count
from evforge.space.space import load_space
from evforge.training.run_folder import unique_folder

__all__ = ["anchors", "coverage_table"]

SHOWN = (0.3, 0.4, 0.5, 0.6, 0.7)
"""IoU thresholds in the printed table. The CSV file contains all thresholds."""

DEFAULT_FITS = (6, 9)
WORTH_A_STRIDE = 0.1
"""A finer grid is recommended if it covers at least this additional share of the boxes."""


def anchors(
    config: Config, lists: Sequence[str] | None = None, output: str | None = None, *, as_json: bool = False
) -> Path:
    """Measure how well anchor lists cover the training labels. Print the results, and write a figure and a CSV file.

    Args:
        config: settings of the dataset, of the box filters and of the anchors.
        lists: each entry is the name of a list, `fit:K` for K fitted anchors, a literal list, or the YAML file of a
            search space, which stands for all its lists. If None: the list in `config`, all named lists and two fitted
            lists.
        output: folder to write to; a new folder in `train.storage` if None.
        as_json: whether standard output is one JSON document instead of text.

    Returns:
        The folder with the figure and the CSV file.

    Raises:
        ValueError: a list is not valid, or the dataset does not fit the settings.
        FileNotFoundError: the dataset or a search space does not exist.
    """
    labels = training_boxes(config)
    candidates = _candidates(labels, config, lists)
    found = {name: coverage_of(labels, config, pairs) for name, pairs in candidates.items()}
    title = f"{len(labels):,} training boxes of {config.data.dataset_path}"
    best = max(found, key=lambda name: found[name].covered + found[name].mean_iou)
    with only_json(as_json):
        print(
            f"{title} in {labels.width}x{labels.height} pixels",
            coverage_table(found, candidates, config),
            f"share of boxes with an anchor at IoU {config.anchors.fg_iou_threshold:g}, by class and size",
            _group_table(found, class_names(config.data)),
            _advice(labels, config, best, candidates[best], found[best]),
            sep="\n\n",
        )
    folder = Path(output) if output else unique_folder(config.train.storage, "anchors")
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "anchors.csv", found, class_names(config.data))
    curves = {name: coverage.recall for name, coverage in found.items()}
    first = pyramid_of(config, candidates[best]).shapes
    shapes = [first * 2**level for level in range(config.model.num_levels)]
    sizes, threshold = labels.boxes[:, 2:], config.anchors.fg_iou_threshold
    save_figure(folder / "anchors.png", lambda: coverage_figure(curves, threshold, sizes, shapes, best, title))
    if as_json:
        print(json_text({**_facts(found, candidates, config, best), "figures": folder}))
    return folder


def _facts(
    found: Mapping[str, Coverage], candidates: Mapping[str, AnchorList], config: Config, best: str
) -> dict[str, Any]:
    """Return the measured coverage as the dict that `--json` prints. Lists and groups are as in the tables."""
    groups = [
        {"list": name, "class": label, "size": size, "num_boxes": part.num_boxes, "covered": part.covered}
        for (label, size), parts in _parts(found, class_names(config.data)).items()
        for name, part in parts.items()
    ]
    lists = [
        {
            "name": name,
            "anchor_list": candidates[name],
            "num_anchors": len(pyramid_of(config, candidates[name]).pairs),
            "recall": {f"{threshold:g}": share for threshold, share in zip(THRESHOLDS, coverage.recall, strict=True)},
            "mean_iou": coverage.mean_iou,
            "covered": coverage.covered,
            "positives_per_box": coverage.positives,
            "ignored_share": coverage.ignored_share,
        }
        for name, coverage in found.items()
    ]
    return {
        "dataset": config.data.dataset_path,
        "num_boxes": next(iter(found.values())).num_boxes,
        "fg_iou_threshold": config.anchors.fg_iou_threshold,
        "bg_iou_threshold": config.anchors.bg_iou_threshold,
        "base_size": config.anchors.base_size,
        "best": best,
        "lists": lists,
        "groups": groups,
    }


def coverage_table(found: Mapping[str, Coverage], candidates: Mapping[str, AnchorList], config: Config) -> str:
    """Format the measured coverage as a table with one row per anchor list.

    Args:
        found: measured coverage of each list, by name of the list.
        candidates: the anchor lists, by name.
        config: settings used for the measurement.
    """
    fg, bg = config.anchors.fg_iou_threshold, config.anchors.bg_iou_threshold
    recalls = [f"IoU {threshold:g}" for threshold in SHOWN]
    lines = [["list", "anchors", *recalls, "mean IoU", f"at {fg:g}", "positive per box", f"ignored of >= {bg:g}"]]
    for name, coverage in found.items():
        shares = [coverage.recall[THRESHOLDS.index(threshold)] for threshold in SHOWN]
        lines.append(
            [
                name,
                str(len(pyramid_of(config, candidates[name]).pairs)),
                *(f"{share:.3f}" for share in shares),
                f"{coverage.mean_iou:.3f}",
                f"{coverage.covered:.3f}",
                f"{coverage.positives:.2f}",
                f"{coverage.ignored_share:.0%}",
            ]
        )
    return text_table(lines, numbers=range(1, len(lines[0])))


def _candidates(labels: LabelBoxes, config: Config, lists: Sequence[str] | None) -> dict[str, AnchorList]:
    """Return the anchor lists to compare, by short name. `lists` has the same entries as in `anchors`."""
    if lists is None:
        fits = [f"fit:{count}" for count in DEFAULT_FITS if count <= len(labels)]
        own = config.anchors.anchor_list
        first: dict[str, AnchorList] = {} if isinstance(own, str) else {"settings": own}
        return {**first, **_candidates(labels, config, [*ANCHOR_LISTS, *fits])}
    found: dict[str, AnchorList] = {}
    for option in itertools.chain.from_iterable(map(_options, lists)):
        count = fit_count(option)
        if count is not None:
            found[f"fit:{count}"] = fit_list(labels, config, count)
        else:
            checked = config.with_overrides({ANCHOR_LIST: option}).anchors.anchor_list
            found[list_name(checked)] = checked
    return found


def _options(text: str) -> Sequence[str]:
    """Convert an entry of `--lists` to options of `anchors.anchor_list`: one option, or all options in a YAML file."""
    if text.endswith((".yaml", ".yml")):
        domain = load_space(text).domains.get(ANCHOR_LIST)
        if domain is None:
            raise ValueError(f"{text}: searches no {ANCHOR_LIST}, allowed for --lists: a space that does")
        return domain.options
    kind, _, digits = text.partition(":")
    if kind != "fit":
        return [text]
    if not digits.isdecimal() or int(digits) < 1:
        raise ValueError(f"--lists: got {text!r}, allowed: fit:K with a number of anchors, such as fit:6")
    return [json.dumps({"fit": int(digits)})]


def _group_table(found: Mapping[str, Coverage], classes: Sequence[str]) -> str:
    """Format the share of covered boxes as a table: a column per anchor list, a row per class and size."""
    lines = [["class", "size", "boxes", *found]]
    for (name, size), part in _parts(found, classes).items():
        (boxes,) = {coverage.num_boxes for coverage in part.values()}
        if boxes:
            lines.append([name, size, f"{boxes:,}", *(f"{coverage.covered:.3f}" for coverage in part.values())])
    return text_table(lines, numbers=range(2, len(lines[0])))


def _parts(found: Mapping[str, Coverage], classes: Sequence[str]) -> dict[tuple[str, str], dict[str, Coverage]]:
    """Split the coverage of each list by class and box size.

    Returns:
        Dict from (class, size) to a dict from list name to coverage. The class and the size can also be "all".
    """
    sizes = [None, *SIZES]
    labels = [(None, "all"), *enumerate(classes, start=1)] if len(classes) > 1 else [(1, classes[0])]
    return {
        (name, size or "all"): {key: coverage.part(label, size) for key, coverage in found.items()}
        for label, name in labels
        for size in sizes
    }


def _advice(labels: LabelBoxes, config: Config, name: str, best: AnchorList, coverage: Coverage) -> str:
    """Format the best list as YAML, and recommend a first stride of 8 instead of 16 if it covers clearly more boxes.

    Args:
        labels: the training boxes.
        config: settings used for the measurement.
        name: name of the best list.
        best: the best list.
        coverage: measured coverage of the best list.
    """
    value = best if isinstance(best, str) else json.dumps([list(pair) for pair in best])
    lines = [
        f"best list: {name}; in a configuration:",
        "anchors:",
        f"  base_size: {config.anchors.base_size:g}",
        f"  anchor_list: {value}",
    ]
    if config.model.first_stride == 16:
        changes = {"model.first_stride": 8, "model.num_levels": config.model.num_levels + 1}
        finer = coverage_of(labels, config.with_overrides(changes), best).covered
        if finer >= coverage.covered + WORTH_A_STRIDE:
            flags = " and ".join(f"{key} {value}" for key, value in changes.items())
            lines.append(f"{flags} would cover {finer:.0%} of the boxes instead of {coverage.covered:.0%}")
    return "\n".join(lines)


def _write_csv(path: Path, found: Mapping[str, Coverage], classes: Sequence[str]) -> None:
    recalls = [f"recall_{threshold:g}" for threshold in THRESHOLDS]
    head = ["list", "class", "size", "boxes", *recalls, "mean_iou", "covered", "positives", "ignored_share"]
    with atomic_write(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for (label, size), coverages in _parts(found, classes).items():
            for name, coverage in coverages.items():
                averages = coverage.mean_iou, coverage.covered, coverage.positives, coverage.ignored_share
                numbers = [f"{value:.6g}" for value in (*coverage.recall, *averages)]
                writer.writerow([name, label, size, coverage.num_boxes, *numbers])
