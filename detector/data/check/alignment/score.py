"""Score how well boxes enclose the events at a time, and the significance of a better score.

The score of a box is the Kullback-Leibler divergence between the split of the events into inside and outside and the
split of the area, as in the spatial scan statistic (Kulldorff 1997). It is highest for a box that encloses all events
of an object and no more area than needed.
"""

from typing import NamedTuple

import numpy as np

from detector.data.check.alignment.activity import Activity

__all__ = ["MAX_BOXES", "BoxSet", "Significance", "box_scores", "choose_boxes", "is_large", "significance"]

PRIOR_EVENTS = 2.0
"""Number of events, spread evenly over the neighbourhood, that are added so that few events give a score near 0."""

MIN_VISIBLE = 0.3
"""Share of the area of a box that must be inside the sensor. Otherwise the score is 0: no evidence."""

MAX_BOXES, MAX_FAR_US = 4000, 5_000_000
"""Largest number of chosen boxes, and their largest distance in microseconds from the counted events."""

SMALLEST = 1e-6
BLOCK_US = 1_000_000


class BoxSet(NamedTuple):
    """Boxes for the comparison with events.

    Args:
        xywh: (M, 4) float64 left, top, width and height in sensor pixels.
        times: (M,) float64 label times in microseconds.
        blocks: (M,) group of each box. Boxes of the same track and second are in one group, because they are not
            independent. Without track ids, the rank from the left at each time replaces the track.
        motion: (M, 2) direction of the motion of the track in x and y, of length 1; 0 where it is not known.
    """

    xywh: np.ndarray
    times: np.ndarray
    blocks: np.ndarray
    motion: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray) -> "BoxSet":
        """Create the set from `BBOX_dtype` labels."""
        xywh = np.stack([labels[name].astype(np.float64) for name in "xywh"], axis=1)
        tracks = _tracks(labels)
        keys = np.stack([labels["t"] // BLOCK_US, tracks], axis=1)
        _, blocks = np.unique(keys, axis=0, return_inverse=True)
        return cls(xywh, labels["t"].astype(np.float64), blocks.reshape(-1), _directions(labels["t"], tracks, xywh))

    def take(self, rows: np.ndarray) -> "BoxSet":
        """Return the boxes with the given indices or True values."""
        return BoxSet(self.xywh[rows], self.times[rows], self.blocks[rows], self.motion[rows])


def choose_boxes(labels: np.ndarray, activity: Activity) -> BoxSet:
    """Choose at most `MAX_BOXES` boxes, spread over the labelled times near the counts, without boxes below a cell."""
    near = (labels["t"] >= activity.start - MAX_FAR_US) & (labels["t"] <= activity.end + MAX_FAR_US)
    chosen = np.flatnonzero(near & is_large(labels, activity))
    return BoxSet.of(labels).take(chosen[:: -(-chosen.size // MAX_BOXES) or 1])


def is_large(labels: np.ndarray, activity: Activity) -> np.ndarray:
    """Return (M,) bool, False for boxes below the size of a cell."""
    return (labels["w"] >= activity.cell[1]) & (labels["h"] >= activity.cell[0])


def _tracks(labels: np.ndarray) -> np.ndarray:
    """Return (M,) int64 track ids. If all are equal, return the rank of each box from the left at its time."""
    tracks = labels["track_id"].astype(np.int64)
    if np.unique(tracks).size > 1:
        return tracks
    order = np.lexsort((labels["x"], labels["t"]))
    sizes = np.unique(labels["t"], return_counts=True)[1]
    ranks = np.empty(tracks.size, np.int64)
    ranks[order] = np.arange(tracks.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return ranks


def _directions(t: np.ndarray, tracks: np.ndarray, xywh: np.ndarray) -> np.ndarray:
    """Return (M, 2) directions of motion: from the previous to the next box of the track, at most 1 s away."""
    order = np.lexsort((t, tracks))
    centres, times = (xywh[:, :2] + xywh[:, 2:] / 2)[order], t[order].astype(np.float64)
    rows = np.arange(order.size)
    joined = (np.diff(tracks[order]) == 0) & (np.diff(times) <= BLOCK_US) & (np.diff(times) > 0)
    before = rows - np.append(False, joined)[: rows.size]
    after = rows + np.append(joined, False)[: rows.size]
    steps = centres[after] - centres[before]
    lengths = np.hypot(steps[:, 0], steps[:, 1])[:, None]
    directions = np.zeros((order.size, 2))
    directions[order] = np.where(lengths > 0, steps / np.maximum(lengths, SMALLEST), 0.0)
    return directions


class Significance(NamedTuple):
    """Mean of values and its error, from groups of values that are independent of each other.

    Args:
        mean: mean of all values.
        ratio: mean divided by its standard error, as in a t-test.
        num_blocks: number of groups.
    """

    mean: float
    ratio: float
    num_blocks: int


def box_scores(
    activity: Activity, xywh: np.ndarray, times: np.ndarray, window: int, neighbourhood: float
) -> np.ndarray:
    """Compute the score of each box.

    Args:
        activity: counts of events.
        xywh: (M, 4) left, top, width and height in sensor pixels.
        times: (M,) times in microseconds.
        window: duration in microseconds of the interval around each time in which events count.
        neighbourhood: width and height of the neighbourhood, relative to the box. Events outside it do not matter.

    Returns:
        (M,) scores in nats; negative if there are fewer events per area inside the box than around it.
    """
    extra = (neighbourhood - 1) / 2 * xywh[:, 2:]
    inner, area = _clip(activity, xywh[:, :2], xywh[:, :2] + xywh[:, 2:])
    outer, whole = _clip(activity, xywh[:, :2] - extra, xywh[:, :2] + xywh[:, 2:] + extra)
    visible = (area > 0) & (area >= MIN_VISIBLE * xywh[:, 2] * xywh[:, 3])
    expected = np.clip(area / np.maximum(whole, SMALLEST), SMALLEST, 1 - SMALLEST)
    inside, around = activity.count(inner, times, window), activity.count(outer, times, window)
    share = (np.maximum(inside, 0) + PRIOR_EVENTS * expected) / (np.maximum(around, inside) + PRIOR_EVENTS)
    share = np.clip(share, SMALLEST, 1 - SMALLEST)
    divergence = share * np.log(share / expected) + (1 - share) * np.log((1 - share) / (1 - expected))
    return np.where(visible, np.copysign(divergence, share - expected), 0.0)


def significance(values: np.ndarray, blocks: np.ndarray) -> Significance:
    """Compute the mean of values and its standard error from the sums over groups of dependent values."""
    if not values.size:
        return Significance(0.0, 0.0, 0)
    _, group = np.unique(blocks, return_inverse=True)
    sizes = np.bincount(group)
    mean, count = float(values.mean()), sizes.size
    if count < 2:
        return Significance(mean, 0.0, count)
    deviations = np.bincount(group, values) - mean * sizes
    error = float(np.sqrt((deviations**2).sum() * count / (count - 1))) / values.size
    return Significance(mean, mean / error if error > 0 else 0.0, count)


def _clip(activity: Activity, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop boxes to the sensor. Return (M, 4) corners and (M,) areas."""
    height, width = activity.sensor_size
    corners = np.clip(np.concatenate([low, high], axis=1), 0, (width, height, width, height))
    return corners, (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
