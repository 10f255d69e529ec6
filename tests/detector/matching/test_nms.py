"""What is kept does not depend on the rest of the batch."""

import torch

from detector.suppression import best_scores, suppress


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
