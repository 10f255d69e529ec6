import math

import torch

from detector.matching.decoding import best_class, class_scores, decode_boxes, select_rows

NAN = math.nan


def test_scores_are_a_softmax_without_the_background():
    logits = torch.log(torch.tensor([[[5.0, 3, 2], [1, 1, 6]], [[1, 7, 2], [8, 1, 1]]]))
    expected = torch.tensor([[[0.3, 0.2], [0.125, 0.75]], [[0.7, 0.2], [0.1, 0.1]]])
    torch.testing.assert_close(class_scores(logits), expected)
    assert class_scores(logits.half()).dtype == torch.float32


def test_the_best_class_of_an_anchor_is_the_first_of_equal_ones():
    scores = torch.tensor([[[0.2, 0.9, 0.3], [0.5, 0.5, 0.1]], [[NAN, 0.1, NAN], [0.4, NAN, 0.6]]])
    found = best_class(scores)
    expected = torch.tensor([[[NAN, 0.9, NAN], [0.5, NAN, NAN]], [[NAN, 0.1, NAN], [NAN, NAN, 0.6]]])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_offsets_move_and_scale_the_anchor():
    anchors = torch.tensor([[[50.0, 40, 10, 20], [4, 30, 8, 6]]])
    offsets = torch.tensor([[[2.0, -1, math.log(3) / 0.5, math.log(0.5) / 0.5], [0, 0, 0, 0]]])
    # Centre 50 + 2 * 0.1 * 10, 40 - 1 * 0.1 * 20; width 10 * 3, height 20 / 2.
    expected = torch.tensor([[[52.0 - 15, 38 - 5, 30, 10], [0, 27, 8, 6]]])
    torch.testing.assert_close(decode_boxes(anchors, offsets, 0.1, 0.5), expected)


def test_boxes_are_cropped_to_the_frame_if_its_size_is_given():
    anchors = torch.tensor([[[50.0, 40, 10, 20], [4, 30, 12, 6], [90, 90, 4, 4]]])
    found = decode_boxes(anchors, torch.zeros(1, 3, 4), 0.1, 0.2, 45, 52)
    # Corners 45, 30, 55, 50; -2, 27, 10, 33; the third box is outside.
    assert found[0].tolist() == [[45, 30, 7, 15], [0, 27, 10, 6], [52, 45, 0, 0]]


def test_rows_are_the_scores_above_the_threshold_by_anchor_and_class():
    boxes = torch.arange(1.0, 25).reshape(3, 2, 4)
    scores = torch.tensor([[[0.1, 0.5], [0.6, 0.7]], [[0.5, 0.2], [0.3, 0.4]], [[0.9, 0.0], [0.0, 0.8]]])
    steps = select_rows(boxes, scores, 0.5, 1)
    assert [len(streams) for streams in steps] == [1, 1, 1]
    expected = [[[5, 6, 7, 8, 0.6, 1], [5, 6, 7, 8, 0.7, 2]], [], [[17, 18, 19, 20, 0.9, 1], [21, 22, 23, 24, 0.8, 2]]]
    for (rows,), wanted in zip(steps, expected, strict=True):
        torch.testing.assert_close(rows, torch.tensor(wanted).reshape(-1, 6))


def test_frames_are_ordered_by_step_and_then_by_stream():
    boxes = torch.ones(6, 1, 4)
    scores = torch.tensor([1, 2, 3, 4, 5, 6]).reshape(6, 1, 1) / 10
    steps = select_rows(boxes, scores, 0.0, 3)
    found = [[round(rows[0, 4].item(), 1) for rows in streams] for streams in steps]
    assert found == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]


def test_boxes_without_area_and_with_nan_are_dropped_unless_they_are_to_be_kept():
    boxes = torch.tensor([[[1.0, 2, 3, 4], [1, 2, 0, 4], [1, 2, 3, -1], [NAN, 2, 3, 4]]])
    scores = torch.full((1, 4, 1), 0.9)
    assert select_rows(boxes, scores, 0.5, 1)[0][0][:, :4].tolist() == [[1, 2, 3, 4]]
    assert len(select_rows(boxes, scores, 0.5, 1, keep_empty=True)[0][0]) == 4


def test_all_functions_run_in_torchscript():
    scripted = {function.__name__: torch.jit.script(function) for function in (best_class, class_scores, select_rows)}
    scores = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scripted["class_scores"](scores), class_scores(scores))
    torch.testing.assert_close(scripted["best_class"](scores), best_class(scores), equal_nan=True)
    boxes = torch.ones(4, 5, 4)
    found, expected = scripted["select_rows"](boxes, scores, 0.5, 2), select_rows(boxes, scores, 0.5, 2)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
