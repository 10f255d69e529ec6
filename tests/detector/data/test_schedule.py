from itertools import pairwise

import pytest

from detector.data.schedule import RowStep, eval_plan, train_plan

LENGTHS = [23, 7, 2, 40, 11]


def served(steps: list[list[RowStep]]) -> list[tuple[int, int]]:
    return sorted((step.file, step.start) for row in steps for step in row if step.file is not None)


@pytest.mark.parametrize("num_rows", [1, 2, 6, 40])
def test_train_plan_serves_every_chunk_once_in_equal_rows(num_rows: int):
    lengths_of_rows = set()
    for epoch in range(10):
        plan = train_plan(LENGTHS, 5, num_rows, seed=3, epoch=epoch)
        lengths_of_rows |= {len(row) for row in plan}
        chunks = served(plan)
        for file, length in enumerate(LENGTHS):
            starts = [start for index, start in chunks if index == file]
            assert len(starts) == max(1, length // 5)
            assert starts == list(range(starts[0], starts[0] + 5 * len(starts), 5))
            assert -5 < starts[0] <= length % 5
            assert starts[-1] < length
    num_chunks = 4 + 1 + 1 + 8 + 2
    assert lengths_of_rows == {-(-num_chunks // num_rows)}


def test_train_plan_resets_where_a_row_begins_or_changes_its_file():
    for row in train_plan(LENGTHS, 5, 3, seed=0, epoch=1):
        assert row[0].reset
        assert row[0].segment == 0
        for before, step in pairwise(row):
            goes_on = step.file is not None and step.file == before.file
            assert step.reset is not goes_on
            if goes_on:
                assert step.start == before.start + 5
                assert step.segment == before.segment
            elif step.file is not None:
                assert step.segment == before.segment + 1


def test_train_plan_follows_from_seed_and_epoch():
    plan = train_plan(LENGTHS, 5, 2, seed=3, epoch=1)
    assert plan == train_plan(LENGTHS, 5, 2, seed=3, epoch=1)
    assert plan != train_plan(LENGTHS, 5, 2, seed=3, epoch=2)
    assert plan != train_plan(LENGTHS, 5, 2, seed=4, epoch=1)


def test_files_come_in_another_order_every_epoch():
    orders = {tuple(step.file for step in train_plan([5] * 8, 5, 1, seed=0, epoch=epoch)[0]) for epoch in range(5)}
    assert len(orders) == 5
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(8))}


@pytest.mark.parametrize(
    ("length", "phases"),
    [(40, {-4, -3, -2, -1, 0}), (42, {-2, -1, 0, 1, 2}), (7, {0, 1, 2}), (5, {0}), (2, {0})],
)
def test_every_phase_comes_up_where_the_file_is_long_enough(length: int, phases: set[int]):
    assert {train_plan([length], 5, 1, seed=0, epoch=epoch)[0][0].start for epoch in range(60)} == phases


def test_one_long_file_serves_all_rows():
    plan = train_plan([100], 5, 4, seed=0, epoch=0)
    first = plan[0][0].start
    assert [row[0] for row in plan] == [RowStep(0, first + start, True, 0) for start in (0, 25, 50, 75)]


def test_eval_plan_streams_whole_files_longest_first():
    assert eval_plan([5, 12, 3], 4, 2) == [
        [RowStep(1, 0, True, 0), RowStep(1, 4, False, 0), RowStep(1, 8, False, 0)],
        [RowStep(0, 0, True, 0), RowStep(0, 4, False, 0), RowStep(2, 0, True, 1)],
    ]
    assert eval_plan([9], 4, 2)[1] == [RowStep(None, 0, True, 0)] * 3
    assert eval_plan([9, 4], 4, 2)[1] == [RowStep(1, 0, True, 0), *[RowStep(None, 0, True, 1)] * 2]


def test_some_segments_run_backwards_as_a_whole():
    forward, turned = (train_plan([60] * 6, 5, 4, seed=2, epoch=1, reversal=share) for share in (0, 0.5))
    seen = set()
    for before, after in zip(forward, turned, strict=True):
        assert [(s.file, s.reset, s.segment) for s in before] == [(s.file, s.reset, s.segment) for s in after]
        for segment in {step.segment for step in before}:
            plain, steps = ([s for s in row if s.segment == segment] for row in (before, after))
            backwards = {step.backwards for step in steps if step.file is not None}
            assert len(backwards) <= 1
            starts = [step.start for step in plain]
            assert [step.start for step in steps] == (starts[::-1] if True in backwards else starts)
            seen |= backwards
    assert seen == {True, False}
    assert turned == train_plan([60] * 6, 5, 4, seed=2, epoch=1, reversal=0.5)


def test_empty_steps_never_run_backwards():
    rows = train_plan([5, 5, 5], 5, 2, seed=0, epoch=0, reversal=1)
    assert {(step.file is None, step.backwards) for row in rows for step in row} == {(False, True), (True, False)}
