"""Fit anchors to labelled boxes: first k-medians with the distance 1 - IoU, then an evolutionary search.

The search measures the coverage of the boxes on the real grid of cells. All levels use the same list of anchors, with
sizes that double from each level to the next. So each box is assigned to the level whose `base_size * 2**level` is
nearest to the side of the box, and its size is measured relative to this level. Relative sizes are within one octave,
except for boxes that are too small for the first level or too large for the last level. Anchors of the two neighbouring
levels may cover the box, too.
"""

import numpy as np

from detector.coverage.anchor_coverage import AnchorPyramid, LabelBoxes, measure_coverage

__all__ = ["fit_anchors"]

SAMPLED_BOXES = 5_000
MEDIAN_ROUNDS, GENERATIONS = 20, 300
FIRST_STEP, LAST_STEP = 0.3, 0.02
"""Standard deviation of the mutations of log2(ratio) and log2(scale), in the first and in the last generation."""

_RELATIVE_LEVELS = (-1, 0, 1)  # levels whose anchors may cover a box, relative to the level of the box
_SAMPLE, _START, _EVOLVE = range(3)  # parts of seeds, so that draws for different purposes are independent


def fit_anchors(
    labels: LabelBoxes,
    count: int,
    base_size: float,
    first_stride: int,
    num_levels: int,
    fg_iou_threshold: float = 0.5,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """Fit the anchors of a cell to boxes. The search maximises the sum of two means over the boxes.

    These are the IoU of a box with its best anchor, and the share of boxes with an IoU of at least `fg_iou_threshold`.

    Args:
        labels: the boxes; a sample of at most `SAMPLED_BOXES` of them is used.
        count: number of anchors per cell.
        base_size: side in pixels of the first level's anchor of ratio 1 and scale 1.
        first_stride: distance in pixels between neighbouring cells of the first level.
        num_levels: number of pyramid levels.
        fg_iou_threshold: an anchor is positive if its IoU with a box is at least this threshold.
        seed: seed of all random draws; the same labels and seed give the same anchors.

    Returns:
        `count` pairs (ratio, scale) with ratio = height / width, sorted by scale, then ratio, and rounded to three
        digits.

    Raises:
        ValueError: `count` is below 1 or above the number of boxes.
    """
    if not 1 <= count <= len(labels):
        raise ValueError(f"count: got {count} anchors to fit, allowed: 1 to the number of boxes ({len(labels)})")
    rng = np.random.default_rng([seed, _SAMPLE])
    sample = labels.take(rng.permutation(len(labels))[:SAMPLED_BOXES])
    points, levels = _fold(sample.boxes[:, 2:], base_size, num_levels)
    # Limits of the search: the ratios of the boxes, and one octave of scales around 1, extended to the scales of boxes
    # that are too small for the first level or too large for the last.
    low = np.minimum(points.min(axis=0), (np.inf, -0.5))
    high = np.maximum(points.max(axis=0), (-np.inf, 0.5))

    def fitness(anchors: np.ndarray) -> float:
        pyramid = AnchorPyramid(_pairs(anchors), base_size, first_stride, num_levels)
        found = measure_coverage(sample, pyramid, fg_iou_threshold, fg_iou_threshold)
        return found.mean_iou + found.covered

    best = _medians(points, levels, count, num_levels, np.random.default_rng([seed, _START]))
    best = best.clip(low, high)
    value, rng = fitness(best), np.random.default_rng([seed, _EVOLVE])
    for step in np.geomspace(FIRST_STEP, LAST_STEP, GENERATIONS):
        changed = rng.random(count) < 1 / count
        changed[rng.integers(count)] = True
        child = best + changed[:, None] * rng.normal(scale=step, size=best.shape)
        child = child.clip(low, high)
        child_value = fitness(child)
        if child_value > value:
            best, value = child, child_value
    return sorted(_pairs(best), key=lambda pair: pair[::-1])


def _fold(sides: np.ndarray, base_size: float, num_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Assign boxes to levels.

    Args:
        sides: (n, 2) width and height of each box in pixels.
        base_size: side in pixels of the first level's anchor of ratio 1 and scale 1.
        num_levels: number of pyramid levels.

    Returns:
        (n, 2) log2 of the ratio and of the scale of each box relative to its level, and the (n,) levels.
    """
    width, height = np.log2(sides).T
    scale = (width + height) / 2 - np.log2(base_size)
    level = np.round(scale).clip(0, num_levels - 1)
    return np.stack([height - width, scale - level], axis=1), level


def _pairs(anchors: np.ndarray) -> list[tuple[float, float]]:
    """Convert rows of log2(ratio) and log2(scale) to (ratio, scale) pairs, rounded to three digits."""
    return [(float(f"{ratio:.3g}"), float(f"{scale:.3g}")) for ratio, scale in 2.0**anchors]


def _medians(
    points: np.ndarray, levels: np.ndarray, count: int, num_levels: int, rng: np.random.Generator
) -> np.ndarray:
    """Cluster boxes by k-medians with the distance 1 - IoU, initialised by k-means++. Return the (count, 2) centres.

    The points and the centres are rows of log2(ratio) and log2(scale), relative to the level of the box.
    """
    centres = points[rng.integers(len(points))][None]
    while len(centres) < count:
        distance = 1 - _overlaps(points, levels, centres, num_levels).max(axis=(1, 2))
        total = distance.sum()
        chance = distance / total if total > 0 else None
        centres = np.concatenate([centres, points[rng.choice(len(points), p=chance)][None]])
    for _ in range(MEDIAN_ROUNDS):
        overlaps = _overlaps(points, levels, centres, num_levels).reshape(len(points), -1)
        centre, relative_level = np.divmod(overlaps.argmax(axis=1), len(_RELATIVE_LEVELS))
        seen_from = points - np.stack([np.zeros(len(points)), np.take(_RELATIVE_LEVELS, relative_level)], axis=1)
        new = [np.median(seen_from[centre == k], axis=0) if (centre == k).any() else centres[k] for k in range(count)]
        if np.array_equal(new, centres):
            break
        centres = np.array(new)
    return centres


def _overlaps(points: np.ndarray, levels: np.ndarray, centres: np.ndarray, num_levels: int) -> np.ndarray:
    """Compute the IoU of each box with each anchor, if their centres are the same.

    Returns:
        (n, k, 3) IoU of each box with the anchors of three levels: the level before that of the box, the level of the
        box, and the next level. -1 for levels that do not exist.
    """
    relative_levels = np.array(_RELATIVE_LEVELS)
    scale = centres[:, None, 1] + relative_levels
    anchors = np.stack([scale - centres[:, None, 0] / 2, scale + centres[:, None, 0] / 2], axis=-1)
    boxes = np.stack([points[:, 1] - points[:, 0] / 2, points[:, 1] + points[:, 0] / 2], axis=-1)[:, None, None]
    shared = 2.0 ** np.minimum(boxes, anchors).sum(axis=-1)
    iou = shared / (2.0 ** (2 * points[:, 1])[:, None, None] + 2.0 ** (2 * scale) - shared)
    level = levels[:, None, None] + relative_levels
    return np.where((level >= 0) & (level < num_levels), iou, -1.0)
