"""Confidence intervals of mAP from a bootstrap over blocks of frames."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from detector.evaluation.analysis.matches import match_boxes
from detector.evaluation.coco_backend import IOUS, RECALLS, EvaluatedBoxes
from detector.utils.compiled import compiled

__all__ = ["MapIntervals", "map_intervals", "resampled_precision"]

DEVIATIONS = 1.96
"""Half the width of an interval in standard deviations. 95 % of a normal distribution are inside."""
LEAST_BLOCKS = 20
MOST_DETECTIONS = 100
"""Number of detections per frame and class that COCO evaluates; the ones with the highest scores."""


class MapIntervals(NamedTuple):
    """95 % intervals of the average precision.

    Args:
        bounds: dict from the name of a metric (`mean_ap`, `mean_ap50`, `mean_ap75`, `ap/<class name>`) to its lower and
            upper bound. It is empty if there are fewer than two blocks; metrics without labels are missing.
        blocks: number of blocks.
        recordings: number of recordings.
    """

    bounds: Mapping[str, tuple[float, float]] = {}
    blocks: int = 0
    recordings: int = 0


def map_intervals(
    parts: Sequence[EvaluatedBoxes], classes: Mapping[int, str], resamples: int = 200, seed: int = 0
) -> MapIntervals:
    """Estimate by how much mAP would vary with other frames of the same kind.

    Each recording is cut into blocks of consecutive evaluated frames, because boxes of neighbouring frames depend on
    each other. With at least `LEAST_BLOCKS` recordings, a block is a whole recording. Otherwise each recording has the
    same number of blocks, at least `LEAST_BLOCKS` in all, but not more than it has frames. A resample draws blocks with
    replacement, as many as there are. The interval is the mAP plus and minus 1.96 standard deviations of the mAP of the
    resamples (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13), limited to 0..1.

    The interval does not include how much mAP varies between recordings if there are few, nor between trainings. On few
    frames, COCO's interpolated precision is too high on average, which the interval does not correct.

    Args:
        parts: labels and detections of the evaluated frames of each recording.
        classes: names of the evaluated classes, by class id in the label map.
        resamples: number of resamples.
        seed: seed of the random generator.
    """
    block_of, count = _blocks([part.num_frames for part in parts])
    weights = np.ones((1, count))
    if count:
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
        weights = np.concatenate((weights, drawn))
    precision = resampled_precision(parts, classes, block_of, weights)
    metrics = {"mean_ap": precision}
    metrics |= {f"mean_ap{round(100 * iou)}": precision[np.isclose(IOUS, iou)] for iou in (0.5, 0.75)}
    metrics |= {f"ap/{name}": precision[:, [index]] for index, name in enumerate(classes.values())}
    bounds = {name: _bounds(values) for name, values in metrics.items()} if count > 1 else {}
    return MapIntervals({name: pair for name, pair in bounds.items() if pair is not None}, count, len(parts))


def resampled_precision(
    parts: Sequence[EvaluatedBoxes], classes: Collection[int], block_of: Sequence[np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Compute the average precision of several resamples of blocks of frames.

    Args:
        parts: labels and detections of the evaluated frames of each recording.
        classes: ids of the evaluated classes.
        block_of: for each recording, (F,) index of the block of each evaluated frame.
        weights: (R, B) how often each resample contains each of the B blocks of all recordings.

    Returns:
        (10, K, R) average precision at the IoU thresholds `IOUS`, for K classes; NaN if a resample contains no label of
        the class. With weights of 1, it is that of `coco_precision`.
    """
    kept = [_best_detections(part) for part in parts]
    scores = _joined(part.score[rows] for part, rows in zip(parts, kept, strict=True))
    order = np.argsort(-scores, kind="stable")
    class_of = _joined(part.detections.class_id[rows] for part, rows in zip(parts, kept, strict=True))[order]
    frames = [part.detections.frame[rows] for part, rows in zip(parts, kept, strict=True)]
    blocks = _joined(block[rows] for block, rows in zip(block_of, frames, strict=True))[order]
    label_class = _joined(part.labels.class_id for part in parts)
    label_block = _joined(block[part.labels.frame] for block, part in zip(block_of, parts, strict=True))
    result = np.full((len(IOUS), len(classes), len(weights)), np.nan)
    for row, iou in enumerate(IOUS):
        matches = (match_boxes(part, iou).detection[rows] for part, rows in zip(parts, kept, strict=True))
        hits = _joined(matches)[order] >= 0
        for column, key in enumerate(classes):
            labels = weights @ np.bincount(label_block[label_class == key], minlength=weights.shape[1])
            inside = class_of == key
            _average_precision(hits[inside], blocks[inside], weights, labels, RECALLS, result[row, column])
    return result


def _joined(columns: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *columns])


def _blocks(frames: Sequence[int]) -> tuple[list[np.ndarray], int]:
    """Cut recordings into blocks of consecutive frames.

    Args:
        frames: number of evaluated frames of each recording.

    Returns:
        For each recording, the index of the block of each frame; and the number of blocks of all recordings.
    """
    each = -(-LEAST_BLOCKS // max(len(frames), 1))
    counts = [min(each, number) for number in frames]
    first = np.cumsum([0, *counts])
    parts = zip(frames, counts, first.tolist(), strict=False)
    return [start + np.arange(number) * count // max(number, 1) for number, count, start in parts], int(first[-1])


def _best_detections(part: EvaluatedBoxes) -> np.ndarray:
    """Return the indices of the detections that COCO evaluates: the best 100 per frame and class."""
    rows = part.detections
    order = np.lexsort((-part.score, rows.class_id, rows.frame))
    groups = np.stack((rows.frame[order], rows.class_id[order]))
    is_first = np.append(True, (groups[:, 1:] != groups[:, :-1]).any(axis=0))[: len(order)]
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    return np.sort(order[np.arange(len(order)) - first < MOST_DETECTIONS])


def _bounds(precision: np.ndarray) -> tuple[float, float] | None:
    """Return the interval of the mean over IoU thresholds and classes; None without labels.

    Args:
        precision: (I, K, 1 + R) average precision of all frames, then of R resamples, NaN for classes without labels.
    """
    empty = np.isnan(precision).all(axis=(0, 1))
    if empty[0]:
        return None
    values = np.nanmean(precision[..., ~empty], axis=(0, 1))
    margin = DEVIATIONS * values[1:].std()
    return float(max(values[0] - margin, 0.0)), float(min(values[0] + margin, 1.0))


@compiled
def _average_precision(
    hits: np.ndarray,
    blocks: np.ndarray,
    weights: np.ndarray,
    labels: np.ndarray,
    recalls: np.ndarray,
    result: np.ndarray,
) -> None:
    """Write the average precision of each resample to `result`.

    `hits` and `blocks` describe the detections of a class, with decreasing scores. `labels` is the weighted number of
    labels of each resample. The precision at a recall is the highest one at this or a higher recall, as in COCO.
    """
    last = len(recalls) - 1
    for sample in range(len(weights)):
        if labels[sample] == 0:
            continue
        best = np.zeros(len(recalls))
        shown, right = 0.0, 0.0
        for row in range(len(hits)):
            weight = weights[sample, blocks[row]]
            shown += weight
            if hits[row] and weight > 0:
                right += weight
                recall = right / labels[sample]
                index = min(int(recall * last) + 1, last)
                while recalls[index] > recall:
                    index -= 1
                best[index] = max(best[index], right / shown)
        total = 0.0
        for index in range(last, -1, -1):
            if index < last:
                best[index] = max(best[index], best[index + 1])
            total += best[index]
        result[sample] = total / len(recalls)
