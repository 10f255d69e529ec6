import numpy as np
import pytest

from detector.evaluation.coco_backend import EvaluatedBoxes, FrameRows, coco_precision, installed_library

RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
CLASSES = {0: "pedestrian", 4: "car"}


def random_part(rng, label_counts, detection_counts):
    """Boxes among which scores are equal; a third of the detections lie on a label."""

    def draw(counts):
        frames = np.repeat(np.arange(len(counts)), counts)
        corners = rng.uniform(0, 150, (len(frames), 2))
        return frames, np.hstack([corners, rng.uniform(5, 110, (len(frames), 2))]), rng.choice([0, 4], len(frames))

    labels, detections = draw(label_counts), draw(detection_counts)
    for row in range(0, len(detections[0]), 3):
        (same,) = np.nonzero(labels[0] == detections[0][row])
        if len(same):
            label = rng.choice(same)
            detections[1][row] = labels[1][label] + rng.normal(0, 1, 4)
            detections[2][row] = labels[2][label]
    sides = [FrameRows(*part, np.arange(len(part[0]))) for part in (labels, detections)]
    scores = rng.integers(0, 20, len(detections[0])) / 20
    return EvaluatedBoxes(len(label_counts), *sides, scores)


def precision(parts, library, values=None):
    areas = [np.concatenate(group) for group in zip(*(_areas(part) for part in parts), strict=True)]
    return coco_precision(parts, CLASSES, RANGES, *(values or areas), library=library)


def _areas(part):
    return part.labels.area(), part.detections.area()


def textbook(parts, values=None):
    """pycocotools as it is."""
    from pycocotools.cocoeval import COCOeval

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detector.evaluation.coco_backend._sparse_evaluation", lambda: COCOeval)
        return precision(parts, "pycocotools", values)


@pytest.fixture(scope="module")
def parts():
    """Ties, empty frames, frames without detections and with more than 100."""
    rng = np.random.default_rng(0)
    first = random_part(rng, [3, 0, 12, 30, 1, 5], [60, 9, 0, 260, 50, 5])
    return [first, random_part(rng, [2, 7], [4, 20])]


@pytest.mark.parametrize("library", ["pycocotools", "faster-coco-eval"])
def test_libraries_agree(parts, library):
    if library == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    ours, theirs = precision(parts, library), textbook(parts)
    assert ours.shape == (10, 101, 2, 4)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert 0.05 < theirs[theirs > -1].mean() < 0.95


@pytest.mark.parametrize("library", ["pycocotools", "faster-coco-eval"])
def test_a_detection_of_no_number_lies_in_every_range(parts, library):
    if library == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    labels, detections = (sum(len(column) for column in group) for group in zip(*map(_areas, parts), strict=True))
    values = np.random.default_rng(1).choice([10.0, 2000.0], labels), np.full(detections, np.nan)
    ours = precision(parts, library, values)
    np.testing.assert_allclose(ours, textbook(parts, values), rtol=0, atol=1e-12)
    inside = precision(parts, library, (values[0], np.full(detections, 2000.0)))
    np.testing.assert_array_equal(ours[..., 2], inside[..., 2])


def test_a_range_without_labels_is_told_by_minus_one(parts):
    assert (precision(parts, "pycocotools", (np.full(60, 5.0), np.full(408, np.nan)))[..., 3] == -1).all()


def test_nothing_labelled_needs_no_library():
    empty = random_part(np.random.default_rng(0), [0, 0], [3, 0])
    assert (precision([empty], "no such library") == -1).all()


def test_the_faster_library_is_taken_where_it_is(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert installed_library() == "pycocotools"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert installed_library() == "faster-coco-eval"
