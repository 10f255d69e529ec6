"""Anchor lists of a search space: lists are fitted to the training labels, and lists with low coverage are dropped."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from detector.config import Config
from detector.coverage.anchor_coverage import AnchorPyramid, Coverage, LabelBoxes, measure_coverage
from detector.coverage.fitted_anchors import fit_anchors
from detector.data.label_map import class_names
from detector.data.sequence_file import OpenFile
from detector.data_factory import psee_data
from evforge.space.anchor_options import ANCHOR_LIST, fit_count, option_text
from evforge.space.domains import Domain
from evforge.space.space import Space

__all__ = [
    "AnchorList",
    "anchors_of",
    "coverage_of",
    "fit_list",
    "list_name",
    "pyramid_of",
    "resolve_lists",
    "training_boxes",
]

AnchorList = str | Sequence[tuple[float, float]]

HOPELESS = 0.5
"""A search drops an anchor list that covers fewer boxes than this fraction of the number that the best list covers."""

FG = "anchors.fg_iou_threshold"
GEOMETRY = ("anchors.base_size", "model.first_stride", "model.num_levels")


def training_boxes(config: Config) -> LabelBoxes:
    """Load the boxes of the training split that pass the box filters of `config.data`, without augmentation.

    Raises:
        FileNotFoundError: the dataset or a part of it does not exist.
        ValueError: the dataset does not fit the settings, or contains no training box.
    """
    split = psee_data(config.to_hparams(), "train").dataset.dataset
    boxes = torch.cat(
        [
            box
            for file in split.files
            for box in OpenFile(file).load_targets(replace(split.targets, num_tbins=file.num_frames), 0)[0]
        ]
    ).numpy()
    first = split.files[0]
    return LabelBoxes.from_corners(boxes[:, :4], boxes[:, 4], len(class_names(config.data)), first.height, first.width)


def pyramid_of(config: Config, anchors: AnchorList) -> AnchorPyramid:
    """Create the anchors of all pyramid levels from an anchor list, with base size, strides and levels of `config`."""
    return AnchorPyramid(anchors, config.anchors.base_size, config.model.first_stride, config.model.num_levels)


def coverage_of(labels: LabelBoxes, config: Config, anchors: AnchorList) -> Coverage:
    """Measure how well the anchors of a list overlap with labelled boxes.

    Args:
        labels: the labelled boxes.
        config: settings with the base size, the strides and the levels of the anchors, and with the two IoU thresholds.
        anchors: the anchor list.
    """
    thresholds = config.anchors.fg_iou_threshold, config.anchors.bg_iou_threshold
    return measure_coverage(labels, pyramid_of(config, anchors), *thresholds)


def fit_list(labels: LabelBoxes, config: Config, count: int) -> list[tuple[float, float]]:
    """Compute the anchors that fit a set of labelled boxes best.

    Args:
        labels: the labelled boxes.
        config: settings with the base size, the strides and the levels of the anchors, and with the foreground
            threshold.
        count: number of anchors to compute.

    Returns:
        The (ratio, scale) pairs of the anchors.

    Raises:
        ValueError: there are fewer boxes than anchors.
    """
    geometry = config.anchors.base_size, config.model.first_stride, config.model.num_levels
    return fit_anchors(labels, count, *geometry, config.anchors.fg_iou_threshold)


def list_name(anchors: AnchorList) -> str:
    """Format an anchor list as short text: its name, or its pairs as `ratio:scale`."""
    return anchors if isinstance(anchors, str) else " ".join(f"{ratio:g}:{scale:g}" for ratio, scale in anchors)


def resolve_lists(space: Space, config: Config, write: Callable[[str], None] = print) -> Space:
    """Replace each `{fit: K}` in a search space by K anchors fitted to the training boxes, and drop poor anchor lists.

    The coverage of a list is the share of training boxes that have an anchor with an IoU of at least the foreground
    threshold. Low-quality matches do not count. A list is dropped if its coverage is less than half of the best
    coverage. If the foreground threshold is searched too, its lowest value is used. If the base size, the first stride
    or the number of levels is searched too, each list is measured with the values that give it the highest coverage.

    Args:
        space: the search space.
        config: settings of the study.
        write: function that is called with one line of text for each list that was fitted or dropped.

    Returns:
        The search space with the remaining lists; `space` itself if there is nothing to fit or to compare.

    Raises:
        ValueError: an option is not an anchor list, or there are fewer boxes than anchors to fit.
    """
    domain = space.domains.get(ANCHOR_LIST)
    if domain is None or (len(domain.options) < 2 and not any(map(fit_count, domain.options))):
        return space
    labels = training_boxes(config)
    try:
        lists = {_literal(labels, config, option, write): None for option in domain.options}
    except ValueError as error:
        raise ValueError(f"{space.path}: space.{ANCHOR_LIST}: {error}") from None
    shares = {option: _best_share(labels, config, space, anchors_of(option)) for option in lists}
    best = max(shares.values())
    kept = tuple(option for option, share in shares.items() if share >= HOPELESS * best)
    for option in lists:
        if option not in kept:
            coverage = f"covers {shares[option]:.0%} of the training boxes, the best list {best:.0%}"
            write(f"dropped anchors {list_name(anchors_of(option))}: {coverage}")
    return replace(space, domains={**space.domains, ANCHOR_LIST: replace(domain, options=kept)})


def anchors_of(option: str) -> AnchorList:
    """Convert an option of `anchors.anchor_list` to an anchor list. JSON text is parsed, a name stays unchanged."""
    return json.loads(option) if option.startswith("[") else option


def _literal(labels: LabelBoxes, config: Config, option: Any, write: Callable[[str], None]) -> str:
    """Fit K anchors if an option is `{fit: K}`. Otherwise check that the option is a valid anchor list.

    Returns:
        The name of an anchor list, or its (ratio, scale) pairs as JSON text.
    """
    count = fit_count(option)
    if count is None:
        config.with_overrides({ANCHOR_LIST: option})
        return option
    anchors = fit_list(labels, config, count)
    write(f"fitted {count} anchors to {len(labels)} training boxes: {list_name(anchors)}")
    return option_text(anchors)


def _best_share(labels: LabelBoxes, config: Config, space: Space, anchors: AnchorList) -> float:
    """Return the share of boxes that a list covers, with the best searched base size, first stride and level number.

    A box is covered if it has an anchor with an IoU of at least the foreground threshold.
    """
    threshold = min(space.domains[FG].extremes) if FG in space.domains else config.anchors.fg_iou_threshold
    known = config.to_flat()
    probes = (_probes(space.domains[key]) if key in space.domains else (known[key],) for key in GEOMETRY)
    pyramids = (AnchorPyramid(anchors, *values) for values in itertools.product(*probes))
    return max(measure_coverage(labels, pyramid, threshold, threshold).covered for pyramid in pyramids)


def _probes(domain: Domain) -> tuple[Any, ...]:
    """Return the values of a domain to try: all options of a choice; the lower end, middle and upper end of a range."""
    if domain.is_choice:
        return domain.options
    middle = math.sqrt(domain.low * domain.high) if domain.kind == "loguniform" else (domain.low + domain.high) / 2
    return domain.low, int(middle) if domain.kind == "randint" else middle, domain.high
