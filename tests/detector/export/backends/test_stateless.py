import pytest
import torch
from small_detector import CHANNELS, HEIGHT, WIDTH, clip, small_ssd

from detector.export.backends.stateless import StepModule, StepRunner
from detector.layers.recurrent import stateful_modules

INFO = {"in_channels": 1, "height": 2, "width": 3, "state_shapes": [[1], [1, 2]]}


def count(frame, state):
    """Two boxes; the score of the second counts the frames of the stream, that of the first sums their values."""
    total, number = state
    total, number = total + frame.sum(), number + torch.tensor([[1.0, 10.0]])
    boxes = torch.tensor([[[1.0, 2, 3, 4], [5, 6, 0, 8]]])
    return boxes, torch.stack([total, number[:, 0]], dim=1).unsqueeze(2) / 100, [total, number]


def frames(*values):
    """Frames (T, B, 1, 2, 3) whose values sum up to `values` of T rows and B columns."""
    return torch.tensor(values, dtype=torch.float64)[:, :, None, None, None].expand(-1, -1, 1, 2, 3) / 6


def sums_and_counts(steps):
    return [[[round(100 * score) for score in rows[:, 4].tolist()] for rows in streams] for streams in steps]


def test_each_stream_has_its_own_state():
    runner = StepRunner(count, INFO)
    found = runner(frames([1, 20], [3, 40]), -1.0)
    assert sums_and_counts(found) == [[[1, 1], [20, 1]], [[4, 2], [60, 2]]]
    assert sums_and_counts(runner.forward(frames([5, 0]), -1.0)) == [[[9, 3], [60, 3]]]


def test_reset_clears_the_streams_whose_value_is_0():
    runner = StepRunner(count, INFO)
    runner(frames([1, 20]), -1.0)
    runner.reset(torch.tensor([0.0, 1.0]))
    assert sums_and_counts(runner(frames([1, 20]), -1.0)) == [[[1, 1], [40, 2]]]
    runner.reset_all()
    assert sums_and_counts(runner(frames([1, 20]), -1.0)) == [[[1, 1], [20, 1]]]


def test_another_number_of_streams_starts_with_a_clear_state():
    runner = StepRunner(count, INFO)
    runner(frames([1, 20]), -1.0)
    runner.reset(torch.ones(3))
    assert sums_and_counts(runner(frames([2, 3, 4]), -1.0)) == [[[2, 1], [3, 1], [4, 1]]]


def test_rows_are_those_above_the_threshold_with_an_area():
    runner = StepRunner(count, INFO)
    ((rows,),) = runner(frames([50]), 0.005)
    torch.testing.assert_close(rows, torch.tensor([[1, 2, 3, 4, 0.5, 1]]))  # the second box has no area
    assert len(runner(frames([0]), 0.6)[0][0]) == 0


def test_detect_suppresses_what_forward_returns():
    def twice(frame, state):
        boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 10, 10]]])
        return boxes, torch.tensor([[[0.9], [0.8], [0.7]]]), state

    runner = StepRunner(twice, INFO)
    assert runner.detect(frames([1]), 0.5, 0.5)[0][0][:, 4].tolist() == pytest.approx([0.9, 0.7])
    assert runner.detect(frames([1]), 0.5, 0.95)[0][0][:, 4].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert runner.detect(frames([1]), 0.5, 0.5, 1)[0][0][:, 4].tolist() == pytest.approx([0.9])
    assert len(runner(frames([1]), 0.5)[0][0]) == 3


def test_the_step_gets_contiguous_float32_frames_of_one_stream():
    seen = []
    runner = StepRunner(lambda frame, state: (seen.append(frame), count(frame, state))[1], INFO)
    runner(frames([1, 2]), 0.0)
    assert [(tuple(frame.shape), frame.dtype, frame.is_contiguous()) for frame in seen] == [
        ((1, 1, 2, 3), torch.float32, True)
    ] * 2


def test_frames_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"^x: frame shape: got \(1, 3, 2\), allowed: the exported one, \(1, 2, 3\)$"):
        StepRunner(count, INFO)(torch.zeros(1, 1, 1, 3, 2))


@pytest.fixture(scope="module")
def ssd():
    return small_ssd()


def test_a_step_computes_what_the_detector_does_and_returns_the_state_that_it_leaves(ssd):
    step = StepModule(ssd, HEIGHT, WIDTH).eval()
    x, (_, state) = clip(3, 1), step.example
    ssd.reset_all()
    with torch.no_grad():
        for frame in x:
            boxes, scores, state = step(frame, state)
            expected_boxes, expected_scores = ssd._boxes(frame[None])
            torch.testing.assert_close(boxes, expected_boxes)
            torch.testing.assert_close(scores, expected_scores)
            kept = [part for module in stateful_modules(ssd) for part in module.state]
            assert len(kept) == len(state) > 0
            assert all(torch.equal(*pair) for pair in zip(kept, state, strict=True))


def test_a_step_leaves_no_state_in_itself_and_none_in_the_detector(ssd):
    ssd.reset_all()
    step = StepModule(ssd, HEIGHT, WIDTH)
    assert step.ssd is not ssd
    frame, state = step.example
    assert frame.shape == (1, CHANNELS, HEIGHT, WIDTH) and not any(part.any() for part in state)
    with torch.no_grad():
        first = step(clip(1, 1)[0], state)
        again = step(clip(1, 1)[0], state)
    assert torch.equal(first[1], again[1]) and not any(part.any() for part in state)
    assert all(not part.any() for module in stateful_modules(ssd) for part in module.state)
