import numpy as np
import pytest

from detector.evaluation.analysis.bootstrap import map_intervals, resampled_precision
from detector.evaluation.coco_backend import EvaluatedBoxes, FrameRows, coco_precision
from tests.helpers.measured_boxes import frame_boxes

CLASSES = {3: "car", 5: "bus"}


def random_part(seed, frames=30, labels=60, detections=400):
    """Labels of two classes, and detections of which about a half is near a label."""
    random = np.random.default_rng(seed)

    def rows(count):
        boxes = np.concatenate((random.uniform(0, 60, (count, 2)), random.uniform(8, 20, (count, 2))), axis=1)
        return FrameRows(random.integers(0, frames, count), boxes, random.choice([3, 5], count), np.arange(count))

    truth, found = rows(labels), rows(detections)
    near = random.integers(0, labels, detections // 2)
    for column in ("frame", "class_id"):
        getattr(found, column)[: len(near)] = getattr(truth, column)[near]
    found.boxes[: len(near)] = truth.boxes[near] + random.normal(0, 1.5, (len(near), 4))
    return EvaluatedBoxes(frames, truth, found, random.permutation(detections) / detections)


def coco_ap(parts):
    """(10, K) average precision by the COCO library."""
    sizes = [sum(len(rows.frame) for rows in of) for of in zip(*((p.labels, p.detections) for p in parts), strict=True)]
    precision = coco_precision(parts, CLASSES, [(0.0, 1.0)], *(np.full(size, 0.5) for size in sizes))
    return precision[..., 0].mean(axis=1)


@pytest.mark.parametrize("frames", [30, 2])  # in 2 frames, more than 100 detections of a class are in a frame
def test_a_resample_that_contains_each_block_once_equals_coco(frames):
    parts = [random_part(seed, frames=frames) for seed in (0, 1)]
    blocks = [np.arange(frames), frames + np.arange(frames)]
    found = resampled_precision(parts, CLASSES, blocks, np.ones((1, 2 * frames)))
    assert found[..., 0] == pytest.approx(coco_ap(parts), abs=1e-12)
    assert 0.05 < found.mean() < 0.9


def test_a_block_that_is_drawn_twice_counts_like_two_recordings():
    one, two = random_part(2), random_part(3)
    blocks = [np.zeros(30, int), np.ones(30, int)]
    found = resampled_precision([one, two], CLASSES, blocks, np.array([[2.0, 0.0], [1.0, 2.0]]))
    assert found[..., 0] == pytest.approx(coco_ap([one, one]), abs=0.02)  # equal scores have another order
    assert found[..., 1] == pytest.approx(coco_ap([one, two, two]), abs=0.02)
    assert np.abs(found[..., 0] - found[..., 1]).max() > 0.03


def test_average_precision_by_hand():
    """Frame 0 has a hit and a false alarm above it, frame 1 a miss."""
    part = frame_boxes([(0, 0, 3), (1, 0, 3)], [(0, 50, 3, 0.9), (0, 0, 3, 0.8)])
    weights = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = resampled_precision([part], CLASSES, [np.array([0, 1])], weights)
    # precision 1/2 at the recalls 0 ... 0.5 of 101; at all of them; nothing found; no label
    assert found[0, 0] == pytest.approx([0.5 * 51 / 101, 0.5, 0.0, np.nan], nan_ok=True)
    assert np.isnan(found[:, 1]).all()  # no label of a bus


def test_intervals_contain_the_mean_map_of_other_frames():
    """Of 40 intervals, about 38 contain the mean mAP of detectors of the same kind on as many frames."""
    mean = np.mean([coco_ap([random_part(100 + seed, 40, 80, 530)]).mean() for seed in range(40)])
    found = [map_intervals([random_part(seed, 40, 80, 530)], CLASSES).bounds["mean_ap"] for seed in range(40)]
    assert 34 <= sum(bool(low <= mean <= high) for low, high in found) < 40


def test_intervals_of_several_thresholds_and_their_blocks():
    parts = [random_part(seed) for seed in range(3)]
    found = map_intervals(parts, CLASSES)
    assert (found.blocks, found.recordings) == (21, 3)  # 7 of each recording
    points = coco_ap(parts)
    assert {name: (low + high) / 2 for name, (low, high) in found.bounds.items()} == pytest.approx(
        {
            "mean_ap": points.mean(),
            "mean_ap50": points[0].mean(),
            "mean_ap75": points[5].mean(),
            "ap/car": points[:, 0].mean(),
            "ap/bus": points[:, 1].mean(),
        }
    )
    assert all(0.01 < high - low < 0.3 for low, high in found.bounds.values())
    assert found == map_intervals(parts, CLASSES)
    assert found != map_intervals(parts, CLASSES, seed=1)


def test_blocks_are_consecutive_frames_or_whole_recordings():
    assert map_intervals([random_part(0, frames=2)], CLASSES).blocks == 2
    assert map_intervals([random_part(seed) for seed in range(20)], CLASSES, resamples=3).blocks == 20
    # hits in the first half only: whole blocks are right or wrong, so the interval is wide
    labels = [(frame, 0, 3) for frame in range(40)]
    half = frame_boxes(labels, [(frame, 0, 3, 0.9) for frame in range(20)], num_frames=40)
    found = map_intervals([half], CLASSES).bounds
    low, high = found["mean_ap"]
    assert found["ap/car"] == (low, high) and "ap/bus" not in found
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 20), abs=0.1)


def test_too_little_for_an_interval():
    assert map_intervals([], CLASSES) == ({}, 0, 0)
    assert map_intervals([frame_boxes([(0, 0, 3)], [], num_frames=1)], CLASSES) == ({}, 1, 1)
    assert map_intervals([frame_boxes([], [(0, 0, 3, 0.5)])], CLASSES).bounds == {}
