import math

import pytest
import torch

from detector.export.parity import Agreement, compare_rows

ROWS = torch.tensor(
    [
        [0.0, 0.0, 20.0, 10.0, 0.9, 1.0],
        [5.0, 5.0, 10.0, 10.0, 0.3, 2.0],
        [0.0, 0.0, 0.0, 0.0, 0.5, 1.0],  # outside the frame: nothing is left of it
        [9.0, 9.0, 9.0, 9.0, 0.1, 1.0],
    ]
)


def changed(row, column, value):
    rows = ROWS.clone()
    rows[row, column] = value
    return [[rows[:1], rows[1:]]]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (changed(0, 0, 0.0), (0.0, 0.0, 3, 3)),
        (changed(0, 2, 19.0), (0.0, 1.0, 3, 3)),  # IoU 0.95
        (changed(0, 2, 18.0), (0.0, 2.0, 3, 2)),
        (changed(1, 4, 0.2), (0.1, 0.0, 3, 2)),
        (changed(3, 0, 90.0), (0.0, 0.0, 3, 3)),  # not confident
        (changed(3, 4, 0.8), (0.7, 0.0, 3, 3)),
    ],
)
def test_by_hand(other, expected):
    assert compare_rows([[ROWS[:2], ROWS[2:]]], other) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("other", "in_float32", "in_bf16"),
    [
        (changed(0, 0, 0.0), True, True),
        (changed(0, 0, 0.2), False, True),
        (changed(3, 4, 0.12), False, True),
        (changed(3, 4, 0.25), False, False),
        (changed(0, 0, 9.0), False, False),
        (changed(0, 4, math.nan), False, False),
    ],
)
def test_fault(other, in_float32, in_bf16):
    found = compare_rows([[ROWS]], other)
    assert (found.fault(exact=True) == "", found.fault(exact=False) == "") == (in_float32, in_bf16)


def test_what_the_fault_says():
    found = compare_rows([[ROWS]], changed(0, 0, 9.0))
    assert found.fault(exact=False) == "2 of 3 boxes matched, scores by 0, allowed: at least 99 % and at most 0.1"
    assert found.fault(exact=True) == "scores by 0, boxes by 9 px, allowed: 0.001 and 0.1 px"


@pytest.mark.parametrize(
    ("exact", "found", "fine"),
    [
        (True, (1e-3, 0.1, 5, 0), True),
        (True, (1.1e-3, 0.1, 5, 5), False),
        (True, (1e-3, 0.11, 5, 5), False),
        (True, (float("nan"), 0.0, 5, 5), False),
        (False, (0.1, 9.0, 100, 99), True),
        (False, (0.1, 9.0, 100, 98), False),
        (False, (0.11, 0.0, 100, 100), False),
        (False, (0.0, 0.0, 0, 0), True),
    ],
)
def test_limits_of_an_agreement(exact, found, fine):
    assert (Agreement(*found).fault(exact) == "") is fine


def test_what_counts_as_a_match():
    rows = [(10.0, 20, 100, 50, score, 1.0) for score in (0.3, 0.29, 0.8, 0.8, 0.8, 0.8)]
    others = [list(row) for row in rows]
    others[1][2] = 900.0  # below the lowest score: not counted
    others[2][2] = 96.0  # IoU 0.96
    others[3][3] = 47.0  # IoU 0.94
    others[4][4], others[5][4] = 0.76, 0.74
    found = compare_rows([[torch.tensor(rows)]], [[torch.tensor(others)]])
    assert (found.detections, found.matched) == (5, 3)
    assert (found.score, found.box) == (pytest.approx(0.06), 4.0)
    same = torch.tensor([[5.0, 5, 0, 7, 0.9, 1]])
    assert compare_rows([[same]], [[same]]) == (0.0, 0.0, 1, 1), "two equal boxes without area"
