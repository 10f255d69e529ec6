"""What is kept does not depend on the rest of the batch."""

import math

import pytest
import torch

from detector.matching.nms import best_scores, has_area, non_max_suppression, suppress


def test_best_scores_by_hand():
    scores = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.9, 0.3]], [[0.0, 0.0], [0.5, 0.0], [0.0, 0.0]]])
    frame, anchor, score, label = best_scores(scores, 0.15, 3)
    assert frame.tolist() == [0, 0, 0, 1]
    assert anchor.tolist() == [0, 2, 1, 1]
    assert label.tolist() == [1, 1, 2, 1]
    assert torch.equal(score, torch.tensor([0.9, 0.9, 0.8, 0.5]))
    assert best_scores(scores, 0.15, 9, max_decode=True)[3].tolist() == [1, 1, 2, 1]


def test_equal_scores_are_cut_alike_alone_and_in_a_batch():
    scores = torch.rand(6, 300, 3, generator=torch.Generator().manual_seed(0)).mul(8).round().div(8)
    scores[1:4] *= 0.1  # alone, some frames need the search by anchors and some do not
    whole = best_scores(scores, 0.05, 20)
    for n in range(6):
        mine = whole[0] == n
        for column, alone in zip(whole[1:], best_scores(scores[n : n + 1], 0.05, 20)[1:], strict=True):
            assert torch.equal(column[mine], alone)


def test_an_overlap_at_the_threshold_is_kept_by_exact_arithmetic():
    # The overlap is 1/3 less one in 10^8: float32 rounds it to 1/3 and float64 does not.
    boxes = torch.tensor([[0.0, 0, 2**24, 1], [2**23 + 1, 0, 2**24 + 2**23, 1]])
    found = suppress(torch.zeros(2, dtype=torch.int64), boxes, torch.tensor([0.9, 0.8]), torch.ones(2).long(), 1 / 3, 1)
    assert len(found[0]["scores"]) == 2
    assert (
        len(suppress(*(c[:0] for c in (torch.ones(1).long(), boxes, boxes[:, 0], torch.ones(1).long())), 0.5, 2)) == 2
    )


def test_boxes_without_area_are_dropped_wherever_they_are():
    boxes = torch.tensor([[0.0, 50, 10, 60], [60, 0, 70, 10], [5, 5, 5, 9], [5, 5, 9, 5], [9, 5, 5, 9], [5, 9, 9, 5]])
    (found,) = suppress(torch.zeros(6).long(), boxes, torch.arange(6, 0, -1) / 6, torch.ones(6).long(), 0.5, 1)
    assert torch.equal(found["boxes"], boxes[:2])


def test_suppression_by_hand():
    rows = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0, 0.9, 1.0],
            [0.0, 0.0, 10.0, 8.0, 0.8, 1.0],  # IoU 0.8 with the first
            [0.0, 0.0, 10.0, 8.0, 0.7, 2.0],  # the same box in another class
            [0.0, 6.0, 10.0, 10.0, 0.6, 1.0],  # IoU 0.25 with the first
        ]
    )
    scripted = torch.jit.script(non_max_suppression)
    for function in (non_max_suppression, scripted):
        assert function(rows, 0.5, 500)[:, 4].tolist() == pytest.approx([0.9, 0.7, 0.6])
        assert function(rows, 0.2, 500)[:, 4].tolist() == pytest.approx([0.9, 0.7])
        assert function(rows, 0.5, 1)[:, 4].tolist() == pytest.approx([0.9])
        assert function(rows[:0], 0.5, 500).shape == (0, 6)


@pytest.mark.parametrize("seed", range(5))
def test_scripted_suppression_equals_torchvision(seed):
    from torchvision.ops import batched_nms

    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(200, 2, generator=generator, dtype=torch.float64) * 50
    size = torch.rand(200, 2, generator=generator, dtype=torch.float64) * 30 + 1
    scores = torch.rand(200, 1, generator=generator, dtype=torch.float64)
    labels = torch.randint(1, 4, (200, 1), generator=generator)
    rows = torch.cat([corner, size, scores, labels], 1)
    keep = batched_nms(torch.cat([corner, corner + size], 1), scores[:, 0], labels[:, 0], 0.4)
    assert torch.equal(torch.jit.script(non_max_suppression)(rows, 0.4, 500), rows[keep])


NAN = float("nan")


@pytest.mark.parametrize("max_decode", [False, True])
def test_nan_scores_are_no_scores(max_decode):
    scores = torch.full((2, 40, 2), 0.2)
    scores[0, 3], scores[0, 5] = torch.tensor([NAN, 0.9]), torch.tensor([0.8, NAN])
    scores[1, :, 0] = NAN
    scores[1, 7, 1] = 0.7
    frame, anchor, score, label = best_scores(scores, 0.1, 2, max_decode)
    assert frame.tolist() == [0, 0, 1, 1]
    assert anchor[:3].tolist() == [3, 5, 7] and label[:3].tolist() == [2, 1, 2]
    assert score[:3].tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_top_0_gives_nothing():
    assert [len(column) for column in best_scores(torch.rand(2, 9, 2), 0.1, 0)] == [0, 0, 0, 0]


def test_rows_without_area_or_with_nan_are_dropped_and_nan_takes_no_place():
    rows = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0, NAN, 1.0],
            [NAN, 0.0, 10.0, 10.0, 0.9, 1.0],
            [0.0, 0.0, 10.0, NAN, 0.9, 1.0],
            [5.0, 5.0, 0.0, 4.0, 0.8, 1.0],  # no area: one of the two highest scores
            [0.0, 0.0, 10.0, 10.0, 0.7, 1.0],
            [40.0, 0.0, 10.0, 10.0, 0.6, 1.0],
        ]
    )
    for function in (non_max_suppression, torch.jit.script(non_max_suppression)):
        assert function(rows, 0.5, 2)[:, 4].tolist() == pytest.approx([0.7])
        assert function(rows, 0.5, 9)[:, 4].tolist() == pytest.approx([0.7, 0.6])
    corners = torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
    zeros = torch.zeros(6, dtype=torch.int64)
    (found,) = suppress(zeros, corners, rows[:, 4], zeros + 1, 0.5, 1)
    assert found["scores"].tolist() == pytest.approx([0.7, 0.6])


def test_boxes_of_any_frame_and_class_are_separate_groups():
    frame, labels = torch.arange(12).repeat_interleave(2), torch.tensor([1, 2]).repeat(12)
    boxes, scores = torch.tensor([[1.0, 2, 9, 8]]).repeat(24, 1), torch.tensor([0.9, 0.8]).repeat(12)
    found = suppress(frame, boxes, scores, labels, 0.5, 13)
    assert [of_frame["labels"].tolist() for of_frame in found] == [[1, 2]] * 12 + [[]]
    found = suppress(frame, boxes, scores, torch.ones(24).long(), 0.5, 12)
    assert [of_frame["scores"].tolist() for of_frame in found] == [pytest.approx([0.9])] * 12


def test_of_equal_scores_the_first_rows_are_used():
    corners = torch.arange(200.0)[:, None] * 10
    rows = torch.cat([corners, corners, *(torch.full((200, 1), value) for value in (4.0, 5.0, 0.5, 1.0))], dim=1)
    assert torch.equal(non_max_suppression(rows, 0.5, 150), rows[:150])
    scores = torch.full((1, 200, 1), 0.5)
    assert best_scores(scores, 0.1, 150)[1].tolist() == list(range(150))
    assert best_scores(scores, 0.5, 150)[1].tolist() == [], "scores up to the threshold are dropped"


def test_rows_with_nan_do_not_displace_others_and_rows_without_area_do():
    rows = torch.tensor([[0.0, 0, 5, 5, 0.9, 1], [0, 0, 0, 5, 0.8, 1], [20, 20, 5, 5, 0.7, 1]])
    unknown = rows[:1].clone()
    unknown[0, 2] = torch.nan
    found = [non_max_suppression(torch.cat([unknown, rows]), 0.5, limit)[:, 4].tolist() for limit in (1, 2, 3)]
    assert found == [pytest.approx([0.9]), pytest.approx([0.9]), pytest.approx([0.9, 0.7])]


def test_rows_with_an_area():
    rows = [(1, 2, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0), (1, 2, -3, 4), (1, 2, 3, -4), (1, 2, 1, 1), (0, 0, 0.5, 0.5)]
    rows += [(1, math.nan, 3, 4), (1, 2, 3, math.nan)]
    assert has_area(torch.tensor(rows)).tolist() == [True, *[False] * 4, True, True, False, False]
    with_score = torch.tensor([(1, 2, 3, 4, math.nan), (1, 2, 3, 4, -1)])
    assert has_area(with_score).tolist() == [False, True]


def test_overlaps_use_width_and_height():
    # 20 x 5 boxes, the second 10 to the right: IoU 1/3. Moved by 2 rows instead, it is 3 / 7.
    for x, y, overlap in ((10.0, 0.0, 1 / 3), (0.0, 2.0, 3 / 7)):
        rows = torch.tensor([[30.0, 40, 20, 5, 0.9, 1], [30 + x, 40 + y, 20, 5, 0.8, 1]])
        kept = [len(non_max_suppression(rows, overlap + change, 9)) for change in (-0.01, 0.01)]
        assert kept == [1, 2]
