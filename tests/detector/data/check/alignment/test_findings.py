from pathlib import Path

import numpy as np
import pytest

from detector.data.check.alignment.findings import check_alignment
from detector.data.check.evidence import Bars, Curves, PixelMap

PATH = Path("a_bbox.npy")


def find(labels, activity, offset=0):
    return list(check_alignment(PATH, labels, activity, offset))


def test_nothing_is_found_in_correct_labels(scene, activity):
    labels = scene[1]
    rng = np.random.default_rng(0)
    assert find(labels, activity) == []
    assert find(labels[labels["t"] % 1_000_000 == 0], activity) == []
    assert find(labels[rng.random(labels.size) < 0.1], activity) == []
    assert find(labels[:20], activity) == []
    assert find(labels[:0], activity) == []
    for name in "xy":
        labels[name] += rng.normal(0, 2, labels.size)
    assert find(labels, activity) == []


@pytest.mark.parametrize("offset", [-2_000_000, -500_000, -100_000, 100_000, 200_000, 1_000_000])
def test_labels_at_other_times(scene, activity, offset):
    labels = scene[1]
    labels["t"] += offset
    (found,) = find(labels, activity)
    assert (found.severity, found.kind, found.path) == ("error", "labels shifted in time", PATH)
    assert f"{'later' if offset > 0 else 'earlier'} than the events" in found.found
    words = found.cause.replace(",", "").split()
    assert int(words[words.index("--label_offset") + 1]) == pytest.approx(-offset, abs=30_000)
    curve, pixels = found.evidence
    assert isinstance(curve, Curves)
    assert isinstance(pixels, PixelMap)
    assert pixels.boxes["as stored"].shape == pixels.boxes["label times corrected"].shape == (3, 4)


def test_an_offset_that_was_given_is_included_in_the_remedy(scene, activity):
    labels = scene[1]
    labels["t"] -= 400_000
    (found,) = find(labels, activity, offset=1_000_000)
    assert 1_370_000 < int(found.cause.split("--label_offset ")[1].split(",")[0]) < 1_430_000


def test_an_offset_is_a_warning_if_most_events_have_one_polarity(scene, activity):
    labels = scene[1]
    labels["t"] -= 400_000
    (found,) = check_alignment(PATH, labels, activity, one_sided=True)
    assert (found.severity, found.kind) == ("warning", "labels shifted in time")
    assert found.cause.endswith(
        "but most events have one polarity, so that the offset may be that of an edge of the objects: see the figure"
    )


def test_times_that_cannot_be_told_apart(scene, activity):
    """Boxes that stand still fit equally well at all times, and boxes of another scene fit at none."""
    labels = scene[1]
    rng = np.random.default_rng(1)
    still = labels.copy()
    still["x"], still["y"] = 50, 20
    assert find(still, activity) == []
    other = labels.copy()
    for name, most in (("x", 100), ("y", 60)):
        other[name] = rng.uniform(0, most, labels.size)
    assert find(other, activity) == []


def test_boxes_in_another_layout(scene, activity):
    labels = scene[1]
    mirrored = labels.copy()
    mirrored["x"] = 120 - labels["x"] - labels["w"]
    (found,) = find(mirrored, activity)
    assert (found.severity, found.kind) == ("error", "boxes in another layout")
    assert "after a change: mirrored in x (score " in found.found
    bars, pixels = found.evidence
    assert isinstance(bars, Bars)
    assert bars.marked == ("mirrored in x",)
    right = pixels.boxes["mirrored in x"]
    assert np.allclose(right[:, 0], 120 - pixels.boxes["as stored"][:, 0] - right[:, 2])
    small = labels.copy()
    small["w"] /= 2
    small["h"] /= 2
    (found,) = find(small, activity)
    assert (found.severity, found.cause.split(": ")[1]) == ("warning", "w, h times 2")
