import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured_boxes import HALF, TWO, boxes, measure

from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.evaluation.pairing import thin, whole_numbers
from detector.events.frames import Frames
from detector.events.types import BBOX_dtype


def by_frame(labels, detections, frames, **options):
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304, **options)
    evaluator.partial_eval([labels], [detections], [frames])
    return evaluator, evaluator.accumulate()["mean_ap"]


def at(times, x=10, class_id=1, score=1.0):
    """A 40 x 40 box at each of the times in microseconds."""
    return boxes(*((t, x, 10, 40, 40, class_id, score) for t in times))


def moving(times):
    """A box that moves 6 px per frame of 50 ms."""
    rows = at(times)
    rows["x"] = 6 * (rows["t"] // 50_000)
    return rows


# With frames


def test_a_perfect_detector_scores_one_at_any_phase_of_the_labels():
    """40 frames of 50 ms, labels 10 ms into each, detections at the frames' ends."""
    labels = moving(range(10_000, 2_000_000, 50_000))
    detections = labels.copy()
    detections["t"] += 40_000
    assert by_frame(labels, detections, Frames(0, 50_000, 40))[1] == pytest.approx(1)


def test_a_frame_without_detections_answered_nothing():
    labels = at([50_000, 100_000])
    assert by_frame(labels, at([100_000]), Frames(0, 50_000, 2))[1] == pytest.approx(HALF)
    assert by_frame(labels, at([50_000]), Frames(0, 50_000, 2))[1] == pytest.approx(HALF)


def test_a_label_on_a_border_belongs_to_the_frame_that_ends_there():
    labels, frames = at([100_000]), Frames(0, 50_000, 4)
    assert by_frame(labels, at([100_000]), frames)[1] == pytest.approx(1)
    assert by_frame(labels, at([150_000]), frames)[1] == 0
    assert by_frame(at([100_001]), at([150_000]), frames)[1] == pytest.approx(1)


def test_of_labels_in_one_frame_the_last_time_counts_unwanted_classes_included():
    frames, detections = Frames(0, 50_000, 1), at([50_000], x=100)
    evaluator, value = by_frame(np.concatenate([at([10_000]), at([40_000], x=100)]), detections, frames)
    assert value == pytest.approx(1)
    assert evaluator.left_out == {"labels before the last labelled time of their frame": 1}
    evaluator, value = by_frame(np.concatenate([at([10_000]), at([40_000], class_id=9)]), at([50_000]), frames)
    assert (value, evaluator.recordings[0].num_frames) == (0.0, 1), "the frame holds no box: its detection is false"


@pytest.mark.parametrize(("t", "inside"), [(-1, 0), (1_000_000, 0), (1_000_001, 1), (1_100_000, 1), (1_100_001, 0)])
def test_labels_at_the_start_and_after_the_end_are_outside_and_counted(t, inside):
    evaluator, _ = by_frame(at([t]), at([]), Frames(1_000_000, 50_000, 2))
    assert evaluator.recordings[0].num_frames == inside
    assert evaluator.left_out.get("labels outside of the recording", 0) == 1 - inside


def test_the_skipped_start_counts_label_times_and_never_detections():
    """Labels at 40 and 60 ms after the start, 50 ms skipped: the second counts, and its frame ends at 100 ms."""
    labels, frames = at([1_040_000, 1_060_000]), Frames(1_000_000, 50_000, 2)
    evaluator, value = by_frame(labels, at([1_100_000]), frames, skip_us=50_000)
    assert (value, evaluator.recordings[0].num_frames) == (pytest.approx(1), 1)
    assert evaluator.left_out == {"labels in the skipped start": 1}
    assert by_frame(at([1_050_000]), at([1_050_000]), frames, skip_us=50_000)[1] is None, "at the limit: skipped"
    assert by_frame(at([1_030_000]), at([1_050_000]), frames, skip_us=20_000)[1] == pytest.approx(1)


def test_empty_frames_count_or_are_ignored():
    """A found box, and false detections of higher scores in a frame of unwanted and one of too small boxes."""
    small = boxes((150_000, 0, 0, 4, 4, 1, 1))
    labels = np.concatenate([at([50_000]), at([100_000], class_id=9), small])
    detections = np.concatenate([at([50_000], score=0.5), at([100_000, 150_000], score=0.9)])
    frames = Frames(0, 50_000, 3)
    assert by_frame(labels, detections, frames, min_box_side=5)[1] == pytest.approx(1 / 3)
    evaluator, value = by_frame(labels, detections, frames, min_box_side=5, empty_frames="ignore")
    assert (value, evaluator.recordings[0].num_frames) == (pytest.approx(1), 1)
    assert evaluator.left_out["labelled frames without a box that counts"] == 2


def test_frames_are_taken_by_name_and_by_order():
    labels = at([50_000])
    for frames in ((0, 50_000, 1), [0, 50_000, 1], {"num_frames": 1, "delta_t": 50_000, "first_t": 0}):
        assert by_frame(labels, labels, frames)[1] == pytest.approx(1)


def test_the_rate_thins_label_times_before_frames_take_their_last():
    labels = at([10_000, 30_000, 60_000])
    detections = np.concatenate([at([50_000]), at([100_000])])
    evaluator, value = by_frame(labels, detections, Frames(0, 50_000, 2), eval_rate=20)
    assert value == pytest.approx(1)
    assert evaluator.recordings[0].labels.row.tolist() == [0, 2]


@settings(max_examples=30, deadline=None)
@given(
    period=st.integers(1_000, 200_000),
    phase=st.integers(0, 200_000),
    delta_t=st.integers(10_000, 200_000),
    first_event=st.integers(0, 2**32),
    on_border=st.booleans(),
)
def test_a_perfect_detector_scores_one_for_every_period_phase_frame_and_start(
    period, phase, delta_t, first_event, on_border
):
    start, num_frames = first_event // delta_t * delta_t, 40
    end = start + num_frames * delta_t
    first = start + delta_t if on_border else start + 1 + phase % period
    labels = at(range(first, end + 1, period)[:400])
    labels["x"], labels["y"] = np.arange(len(labels)) * 7 % 250, np.arange(len(labels)) * 13 % 190
    # Each frame (a, b] predicts what was labelled last in it, at b; written out with loops, as the contract says it.
    answers = []
    for k in range(num_frames):
        a, b = start + k * delta_t, start + (k + 1) * delta_t
        inside = labels[(labels["t"] > a) & (labels["t"] <= b)]
        for row in inside[inside["t"] == inside["t"].max(initial=0)]:
            answer = row.copy()
            answer["t"] = b
            answers.append(answer)
    if answers:
        _, value = by_frame(labels, np.array(answers), Frames(start, delta_t, num_frames))
        assert value == pytest.approx(1)


# Without frames


def test_unlabelled_times_are_ignored():
    far = TWO.copy()
    far["t"] = 250_000
    far["x"] += 50
    assert measure(TWO, np.concatenate([TWO, far]))["mean_ap"] == pytest.approx(1)


@pytest.mark.parametrize(("offset", "expected"), [(-50_001, 0), (-50_000, 1), (50_000, 1), (50_001, 0)])
def test_tolerance_is_inclusive(offset, expected):
    late = TWO.copy()
    late["t"] += offset
    assert measure(TWO, late, time_tol=50_000)["mean_ap"] == pytest.approx(expected)


def test_a_label_takes_the_next_answer_and_only_then_the_one_before():
    """A detector that answers every 50 ms says at a frame's end what it saw in it, so the next answer is right."""
    labels = at([110_000])
    right, before = at([150_000]), at([100_000], x=100)
    assert measure(labels, np.concatenate([before, right]))["mean_ap"] == pytest.approx(1), "40 ms after, 10 before"
    assert measure(labels, at([100_000]))["mean_ap"] == pytest.approx(1), "none after it"


@pytest.mark.parametrize(("t", "expected"), [(109_000, 1), (111_000, 1), (108_999, 0)])
def test_an_answer_within_a_millisecond_is_that_of_the_label(t, expected):
    later = at([150_000], x=100)
    assert measure(at([110_000]), np.concatenate([at([t]), later]))["mean_ap"] == pytest.approx(expected)


def test_of_labels_with_one_answer_the_last_counts_and_the_others_are_reported():
    """Labels at 60 Hz, answers at 20 Hz."""
    labels = at([116_667, 133_333, 150_000], x=0)
    labels["x"] = [10, 16, 22]
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304)
    evaluator.partial_eval([labels], [at([150_000], x=22)])
    assert evaluator.accumulate()["mean_ap"] == pytest.approx(1)
    assert evaluator.left_out["label times whose detections answer a later label time"] == 2
    assert evaluator.recordings[0].num_frames == 1


def test_labels_without_any_answer_were_missed():
    labels = at([100_000, 300_000, 301_000])
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304)
    evaluator.partial_eval([labels], [at([100_000])])
    assert (evaluator.recordings[0].num_frames, evaluator.left_out) == (3, {})


def test_silent_answer_is_told_by_a_marker():
    neighbour = TWO.copy()
    neighbour["t"] = 150_000
    silent = boxes((100_000, 0, 0, 0, 0, 7, 0))
    assert measure(TWO, neighbour)["mean_ap"] == pytest.approx(1)
    assert measure(TWO, np.concatenate([silent, neighbour]))["mean_ap"] == 0


def test_eval_rate_keeps_the_labels_nearest_to_its_grid():
    # At 20 Hz of labels at 0, 16,667, 33,333, 49,999, 66,666, 99,998: those at 0, 49,999 and 99,998 count.
    times = np.array([0, 16_667, 33_333, 49_999, 66_666, 99_998])
    labels = np.repeat(TWO[:1], len(times))
    labels["t"] = times
    right = labels[[0, 3, 5]]
    assert measure(labels, right, time_tol=0, eval_rate=20)["mean_ap"] == pytest.approx(1)
    assert measure(labels, right, time_tol=0)["mean_ap"] == pytest.approx(HALF)
    assert thin(times, 20).tolist() == [0, 49_999, 99_998]


@pytest.mark.parametrize(("value", "kind"), [(0.5, "f8"), (np.nan, "f8"), (np.inf, "f4"), (1e300, "f8"), (2**63, "u8")])
def test_numbers_that_are_not_whole_or_too_large_are_refused(value, kind):
    rows = np.zeros(2, [("t", kind), ("x", "f4")])
    rows["t"] = [3, value]
    with pytest.raises(ValueError, match=r"labels: got t = .* in row 1, allowed: whole numbers of microseconds"):
        whole_numbers("labels", rows, "t")
    rows["t"] = [3, 2**40]
    assert whole_numbers("labels", rows, "t").tolist() == [3, 2**40]


def test_class_ids_with_fractions_are_refused():
    labels = at([50_000]).astype(
        [(name, "f4" if name == "class_id" else kind[0]) for name, kind in BBOX_dtype.fields.items()]
    )
    labels["class_id"] = 0.5
    with pytest.raises(ValueError, match=r"labels: got class_id = 0.5 in row 0, allowed: whole numbers$"):
        measure(labels, at([50_000]))


def test_detections_that_cannot_count_are_counted():
    """Two seconds late, or of a class that is not in the label map: mAP is 0, and the counts say why."""
    labels, frames = at([50_000]), Frames(0, 50_000, 20)
    evaluator, value = by_frame(labels, at([2_050_000]), frames)
    assert (value, evaluator.left_out) == (0.0, {"detections outside of the recording": 1})
    evaluator, value = by_frame(labels, at([50_000], class_id=2), frames)
    assert (value, evaluator.left_out) == (0.0, {"detections of classes that are not evaluated": 1})
    evaluator, _ = by_frame(labels, at([100_000]), frames)
    assert evaluator.left_out == {}, "a detection in an unlabelled frame is none of these"
