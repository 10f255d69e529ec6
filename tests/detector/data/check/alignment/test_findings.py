from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.data.check.alignment.activity import ActivityBuilder
from detector.data.check.alignment.displacement import Displacement
from detector.data.check.alignment.findings import (
    check_alignment,
    is_displaced,
    is_edge,
    is_layout_fault,
    is_shift_fault,
)
from detector.data.check.alignment.score import Significance
from detector.data.check.alignment.search import LayoutFit, ShiftFit
from detector.data.check.evidence import Bars, Curves, PixelMap
from detector.events import BBOX_dtype

PATH = Path("a_bbox.npy")


GOOD = Significance(0.3, 4.0, 8)
"""Exactly the smallest values for which a displacement of the score 1 is reported."""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"move": (1.6, -1.1)}, False),
        ({"score": 0.09, "gain": GOOD._replace(mean=0.05)}, False),
        ({"gain": GOOD._replace(mean=0.29)}, False),
        ({"gain": GOOD._replace(ratio=3.9)}, False),
        ({"gain": GOOD._replace(num_blocks=7)}, False),
        ({"lead": Significance(0.09, 3.0, 8)}, False),
        ({"lead": Significance(0.1, 2.9, 8)}, False),
    ],
)
def test_the_smallest_displacement(changes, expected):
    smallest = Displacement((1.2, -1.6), 1.0, GOOD, Significance(0.1, 3.0, 8))
    assert is_displaced(replace(smallest, **changes)) == expected
    weakest = replace(smallest, score=0.1, gain=GOOD._replace(mean=0.2), lead=Significance(0.2, 3.0, 8))
    assert is_displaced(weakest)


@pytest.mark.parametrize(
    ("move", "ratio", "blocks", "expected"),
    [(-0.4, -2.0, 2, True), (0.39, -2.0, 2, False), (0.4, -2.1, 2, False), (0.4, -2.0, 1, False)],
)
def test_the_smallest_displacement_of_an_edge(move, ratio, blocks, expected):
    found = Displacement((move, 0.0), 1.0, GOOD, Significance(-0.1, ratio, blocks))
    assert is_edge(found) == expected


SHIFTS = np.arange(-2_000_000, 2_000_001, 100_000)


def fit_of(best, error, mean=0.025, ratio=2.0, blocks=8, score=1.0, far=0.0, number=SHIFTS.size):
    """A time offset with scores of `far` at all offsets."""
    shifts = SHIFTS[:number]
    return ShiftFit(shifts, np.full(number, far), best, score, Significance(mean, ratio, blocks), error)


@pytest.mark.parametrize(
    ("fit", "step", "expected"),
    [
        (fit_of(-50_000, 1_600), 10_000, True),
        (fit_of(49_999, 1_000), 10_000, False),
        (fit_of(60_000, 1_600), 40_000, True),
        (fit_of(59_999, 1_600), 40_000, False),  # below 1.5 steps
        (fit_of(50_000, 1_700), 10_000, False),  # 3 errors less are below 45 ms
        (fit_of(100_000, 18_300), 10_000, True),
        (fit_of(100_000, 18_400), 10_000, False),
        (fit_of(120_000, 20_000), 10_000, True),
        (fit_of(120_000, 20_001), 10_000, False),
        (fit_of(400_000, 40_000), 10_000, True),
        (fit_of(400_000, 40_001), 10_000, False),  # above a tenth
        (fit_of(1_000_000, 60_000, ratio=3.0), 10_000, True),
        (fit_of(1_000_000, 60_001, ratio=3.0), 10_000, False),
        (fit_of(499_999, 1_000), 10_000, True),
        (fit_of(500_000, 1_000, ratio=2.9), 10_000, False),
        (fit_of(500_000, 1_000, ratio=3.0), 10_000, True),
        (fit_of(100_000, 1_000, ratio=1.9), 10_000, False),
        (fit_of(100_000, 1_000, mean=0.024), 10_000, False),
        (fit_of(100_000, 1_000, blocks=7), 10_000, False),
        (fit_of(100_000, 1_000, score=0.1), 10_000, True),
        (fit_of(100_000, 1_000, score=0.09), 10_000, False),
        (fit_of(100_000, 1_000, score=0.75, far=0.5), 10_000, True),
        (fit_of(100_000, 1_000, score=0.74, far=0.5), 10_000, False),
        (fit_of(-1_000_000, 1_000, ratio=3.0, number=21), 10_000, True),  # 10 offsets are farther than 0.5 s
        (fit_of(-1_000_000, 1_000, ratio=3.0, number=20), 10_000, False),
    ],
)
def test_the_smallest_offset(fit, step, expected):
    assert is_shift_fault(fit, step) == expected


@pytest.mark.parametrize(
    ("best", "score", "gain", "lead", "expected"),
    [
        ("mirrored in x", 1.0, (0.3, 4.0, 8), 0.2, True),
        ("mirrored in x", 1.0, (0.29, 4.0, 8), 0.2, False),
        ("mirrored in x", 1.0, (0.3, 3.9, 8), 0.2, False),
        ("mirrored in x", 1.0, (0.3, 4.0, 7), 0.2, False),
        ("mirrored in x", 1.0, (0.3, 4.0, 8), 0.19, False),
        ("mirrored in x", 0.16, (0.3, 4.0, 8), 0.2, True),
        ("mirrored in x", 0.14, (0.3, 4.0, 8), 0.2, False),
        ("w, h times 2", 1.0, (0.2, 4.5, 30), 0.25, True),
        ("w, h times 2", 1.0, (0.19, 4.5, 30), 0.25, False),
        ("w, h times 2", 1.0, (0.2, 4.4, 30), 0.25, False),
        ("w, h times 2", 1.0, (0.2, 4.5, 29), 0.25, False),
        ("w, h times 2", 1.0, (0.2, 4.5, 30), 0.24, False),
        ("as stored", 1.0, (0.3, 4.5, 30), 0.25, False),
    ],
)
def test_the_smallest_lead_of_a_layout(best, score, gain, lead, expected):
    assert is_layout_fault(LayoutFit({best: score}, best, Significance(*gain), lead)) == expected


def find(labels, activity, offset=0):
    return check_alignment(PATH, labels, activity, offset).findings


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
    assert pixels.sensor_size == (80, 120) and pixels.counts is not None
    assert pixels.boxes["as stored"].shape == pixels.boxes["label times corrected"].shape == (3, 4)


def scaled(labels, factor):
    labels["t"] = np.rint(labels["t"] * factor)
    return labels


@pytest.mark.parametrize(
    ("fps", "side", "factor"), [(25, "short", "2.5"), (12, "short", "1.2"), (11, "short", "1.1"), (8, "long", "1.25")]
)
def test_labels_at_a_wrong_rate_of_images(scene, activity, fps, side, factor):
    """The labels are at 10 Hz."""
    ((found,), fits) = check_alignment(PATH, scaled(scene[1], 10 / fps), activity, fps=fps)
    assert not fits
    assert (found.severity, found.kind, found.path) == ("error", "label times scaled", PATH)
    start, value = found.found.split(" (")[0].rsplit(" ", 1)
    assert start == f"label times are too {side} by a factor of"
    assert float(value) == pytest.approx(float(factor), rel=0.01)
    assert found.cause == f"give `build` --label_fps 10 instead of {fps}"
    (curve,) = found.evidence
    assert curve.marks["as stored"] == 1


def test_a_factor_of_labels_without_a_rate(scene, activity):
    (found,) = find(scaled(scene[1], 0.4), activity)
    assert (found.kind, "--label_fps" in found.cause) == ("label times scaled", False)
    start, text = found.cause.split(" per second is ")
    assert start == "check with which rate or unit the label times were computed: the right number of images"
    assert float(text.split(" times")[0]) == pytest.approx(0.4, rel=0.01)


def test_factors_are_relative_to_the_start_and_the_given_offset(scene, activity):
    labels = scaled(scene[1], 0.5)
    labels["t"] += 6_000_000
    assert "label times scaled" not in [found.kind for found in find(labels, activity)]
    ((found,), _) = check_alignment(PATH, labels, activity, 2_000_000, start=10_000_000)
    assert "too short by a factor of 2 (" in found.found


def test_whether_labels_fit(scene, activity):
    labels = scene[1]
    still = labels.copy()
    still["x"], still["y"] = 50, 20
    late = labels.copy()
    late["t"] += 500_000
    parts = (labels, still, late, labels[:20], labels[:0])
    assert [check_alignment(PATH, part, activity).fits for part in parts] == [True, False, False, False, False]


def test_an_offset_of_an_image(scene, activity):
    labels = scene[1]
    labels["t"] += 100_000
    ((found,), _) = check_alignment(PATH, labels, activity, fps=10)
    assert int(found.cause.split("--label_offset ")[1].split(",")[0]) in (-90_000, -100_000, -110_000)
    assert found.cause.endswith("this is about 1 image interval (100 ms): possibly --label_first_image is wrong by 1")


def test_an_offset_that_was_given_is_included_in_the_remedy(scene, activity):
    labels = scene[1]
    labels["t"] -= 400_000
    (found,) = find(labels, activity, offset=1_000_000)
    assert 1_370_000 < int(found.cause.split("--label_offset ")[1].split(",")[0]) < 1_430_000


def test_an_offset_is_a_warning_if_most_events_have_one_polarity(scene, activity):
    labels = scene[1]
    labels["t"] -= 400_000
    ((found,), _) = check_alignment(PATH, labels, activity, one_sided=True)
    assert (found.severity, found.kind) == ("warning", "labels shifted in time")
    assert found.cause.endswith(
        "but most events have one polarity, so that the offset may be that of an edge of the objects: see the figure"
    )


def test_times_that_cannot_be_told_apart(scene, activity):
    """Boxes that stand still fit equally well at all times."""
    labels = scene[1]
    still = labels.copy()
    still["x"], still["y"] = 50, 20
    assert find(still, activity) == []


def test_displaced_boxes_are_not_shifted_in_time(scene, activity):
    labels = scene[1]
    labels["x"] += 6
    labels["y"] -= 4
    (found,) = find(labels, activity)
    assert (found.severity, found.kind) == ("warning", "boxes displaced")
    x, y = (float(word) for word in found.found.split("change: x ")[1].split(" px (")[0].split(" px and y "))
    assert (x, y) == (pytest.approx(-6, abs=1), pytest.approx(4, abs=1))


def test_events_of_one_edge_are_no_error():
    """Objects of 30 x 12 px at 20 to 60 px/s in both directions, of which only the leading edge sends events."""
    rng = np.random.default_rng(2)
    parts, rows = [], []
    for track in range(16):
        speed, start, y = rng.uniform(20, 60) * (-1) ** track, rng.uniform(0, 15), rng.uniform(0, 68)
        left = (-15 if speed > 0 else 105) - speed * start
        t = rng.uniform(start, min(start + 130 / abs(speed), 20), 3000)
        parts.append((t, left + speed * t + (29 if speed > 0 else 1), y + rng.uniform(0, 12, t.size)))
        for time in np.arange(np.ceil(10 * t.min()) / 10, t.max(), 0.1):
            rows.append((round(time * 1e6), left + speed * time, y, 30, 12, 0, track, 1.0))
    t, x, y = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(t)
    order = order[(x[order] >= 0) & (x[order] < 120)]
    builder = ActivityBuilder((80, 120), (0, 20_000_000))
    columns = x[order].astype(np.uint16), y[order].astype(np.uint16), np.zeros(order.size, np.int8)
    builder.add_events((*columns, (t[order] * 1e6).astype(np.int64)))
    labels = np.array(rows, BBOX_dtype)
    findings = find(labels[np.argsort(labels["t"], kind="stable")], builder.build())
    assert all(found.severity == "warning" for found in findings)
    assert all("one edge of the moving objects" in found.cause for found in findings)


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
    assert pixels.sensor_size == (80, 120) and pixels.counts is not None
    right = pixels.boxes["mirrored in x"]
    assert np.allclose(right[:, 0], 120 - pixels.boxes["as stored"][:, 0] - right[:, 2])
    small = labels.copy()
    small["w"] /= 2
    small["h"] /= 2
    (found,) = find(small, activity)
    assert (found.severity, found.cause.split(": ")[1]) == ("warning", "w, h times 2")
