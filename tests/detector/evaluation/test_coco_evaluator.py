import numpy as np
import pytest
from measured_boxes import HALF, TWO, boxes, measure

from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.events.frames import Frames
from detector.events.types import BBOX_dtype


def test_perfect_detections_give_one():
    results = measure(TWO, TWO)
    assert results["mean_ap"] == pytest.approx(1)
    assert results["mean_ap50"] == results["mean_ap75"] == results["ap/car"] == pytest.approx(1)


def test_half_of_the_boxes_found():
    assert measure(TWO, TWO[:1])["mean_ap"] == pytest.approx(HALF)


def test_overlap_decides_which_thresholds_count():
    # 40 x 40 boxes shifted by 8: intersection 32 * 40, union 2 * 1600 - 1280, IoU 2/3: passes 0.50, 0.55, 0.60, 0.65.
    shifted = TWO.copy()
    shifted["x"] += 8
    results = measure(TWO, shifted)
    assert results["mean_ap50"] == pytest.approx(1)
    assert results["mean_ap75"] == 0
    assert results["mean_ap"] == pytest.approx(0.4)


def test_false_positive_of_higher_score_halves_the_precision():
    wrong = boxes((100_000, 200, 10, 40, 40, 1, 0.9))
    right = TWO[:1].copy()
    right["class_confidence"] = 0.8
    assert measure(TWO[:1], np.concatenate([wrong, right]))["mean_ap"] == pytest.approx(0.5)
    right["class_confidence"] = 0.95
    assert measure(TWO[:1], np.concatenate([wrong, right]))["mean_ap"] == pytest.approx(1)


def test_of_equal_scores_the_first_given_ranks_first():
    wrong = boxes((100_000, 200, 10, 40, 40, 1, 1))
    assert measure(TWO[:1], np.concatenate([wrong, TWO[:1]]))["mean_ap"] == pytest.approx(0.5)
    assert measure(TWO[:1], np.concatenate([TWO[:1], wrong]))["mean_ap"] == pytest.approx(1)


def test_second_detection_of_a_box_is_false():
    twice = np.concatenate([TWO[:1], TWO[:1], TWO[1:]])
    twice["class_confidence"] = [0.9, 0.8, 0.7]
    # Recall 0.5 at precision 1, recall 1 at precision 2/3: 51 and 50 of the 101 points.
    assert measure(TWO, twice)["mean_ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_wrong_class_counts_for_neither():
    wrong = TWO.copy()
    wrong["class_id"] = 0
    assert measure(TWO, wrong)["mean_ap"] == 0


def test_class_without_labels_stays_out_of_the_mean():
    results = measure(TWO, np.concatenate([TWO, boxes((100_000, 0, 0, 30, 30, 0, 1))]))
    assert results["mean_ap"] == pytest.approx(1)
    assert results["ap/pedestrian"] is None


def test_quantities_without_data_are_none():
    results = measure(TWO[:0], TWO)
    sizes = ["mean_ap_small", "mean_ap_medium", "mean_ap_big"]
    assert list(results) == ["mean_ap", "mean_ap50", "mean_ap75", *sizes, "ap/pedestrian", "ap/car"]
    assert set(results.values()) == {None}, "no frame was evaluated"
    unwanted = TWO.copy()
    unwanted["class_id"] = 9
    results = measure(unwanted, TWO)
    assert (results.pop("mean_ap"), results.pop("mean_ap50")) == (0.0, 0.0), "two false detections in a labelled frame"
    assert set(results.values()) == {None}


def test_no_recordings_and_no_detections():
    assert CocoEvaluator(["car"], 240, 304).accumulate()["mean_ap"] is None
    results = measure(TWO, TWO[:0])
    assert (results["mean_ap"], results["mean_ap_medium"], results["mean_ap_big"]) == (0, 0, None)


def test_classes_named_like_sizes_do_not_replace_them():
    labels = boxes((0, 10, 10, 20, 20, 0, 1), (0, 100, 100, 40, 40, 1, 1))
    results = measure(labels, labels[:1], ("small", "big"))
    assert (results["mean_ap_small"], results["mean_ap_medium"], results["mean_ap_big"]) == (pytest.approx(1), 0, None)
    assert (results["ap/small"], results["ap/big"]) == (pytest.approx(1), 0)


def test_labels_behind_each_metric():
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304, min_box_side=5)
    labels = boxes((0, 0, 0, 20, 20, 0, 1), (0, 0, 0, 32, 32, 1, 1), (0, 0, 0, 4, 40, 1, 1), (0, 0, 0, 9, 9, 7, 1))
    evaluator.partial_eval([labels], [labels[:0]])
    counts = {"mean_ap": 2, "mean_ap50": 2, "mean_ap75": 2, "mean_ap_small": 2, "mean_ap_medium": 1, "mean_ap_big": 0}
    assert evaluator.quantities() == {**counts, "ap/pedestrian": 1, "ap/car": 1}
    assert {name for name, value in evaluator.accumulate().items() if value is None} == {"mean_ap_big"}


@pytest.mark.parametrize(("side", "size"), [(31, "small"), (32.5, "medium"), (95.5, "medium"), (97, "big")])
def test_area_ranges(side, size):
    labels = boxes((0, 10, 10, side, side, 1, 1))
    results = measure(labels, labels)
    values = {name: results[f"mean_ap_{name}"] for name in ("small", "medium", "big")}
    assert values.pop(size) == pytest.approx(1)
    assert set(values.values()) == {None}


@pytest.mark.parametrize("marker", [(300_000, 5, 5, 20, 20, 9, 1), (300_000, 0, 0, 0, 0, 1, 1)])
def test_empty_frame_counts_its_false_detections(marker):
    detections = np.concatenate([TWO[:1], TWO[:1]])
    detections["t"][1], detections["class_confidence"] = 300_000, [0.5, 0.9]
    assert measure(TWO[:1], detections)["mean_ap"] == pytest.approx(1)
    assert measure(np.concatenate([TWO[:1], boxes(marker)]), detections)["mean_ap"] == pytest.approx(0.5)


def test_class_named_empty_is_no_class():
    empty = boxes((300_000, 0, 0, 0, 0, 2, 1))
    false = boxes((300_000, 0, 0, 40, 40, 1, 2))
    results = measure(np.concatenate([TWO, empty]), np.concatenate([TWO, false]), {1: "car", 2: "empty"})
    assert "ap/empty" not in results
    assert results["mean_ap"] < 1


def test_ids_of_a_mapping_are_the_label_maps():
    labels = TWO.copy()
    labels["class_id"] = [5, 3]
    results = measure(labels, labels[:1], {5: "truck", 3: "car"})
    assert results["ap/truck"] == pytest.approx(1)
    assert results["ap/car"] == 0


def test_at_most_100_detections_a_frame():
    false = np.repeat(boxes((100_000, 200, 10, 20, 20, 1, 0.9)), 100)
    right = TWO[:1].copy()
    right["class_confidence"] = 0.5
    assert measure(TWO[:1], np.concatenate([false[:99], right]))["mean_ap"] == pytest.approx(0.01)
    assert measure(TWO[:1], np.concatenate([false, right]))["mean_ap"] == 0


def test_boxes_are_cropped_to_the_frame():
    label = boxes((0, 0, 0, 20, 40, 1, 1))
    beyond = boxes((0, -20, -5, 40, 45, 1, 1))
    assert measure(label, beyond)["mean_ap"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((100_000, 400, 10, 40, 40, 1, 0.99), "outside of the frame"),
        ((100_000, -50, 10, 40, 40, 1, 0.99), "outside of the frame"),
        ((100_000, 10, 240, 40, 40, 1, 0.99), "touches the frame"),
        ((100_000, 200, 10, 0, 40, 1, 0.99), "no width"),
        ((100_000, 200, 10, 40, 0, 1, 0.99), "no height"),
        ((100_000, 200, 50, -40, -40, 1, 0.99), "negative size"),
    ],
)
def test_boxes_without_area_are_dropped_on_both_sides_and_counted(box, reason):
    rows = np.concatenate([TWO, boxes(box)])
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304)
    evaluator.partial_eval([rows], [rows])
    assert evaluator.accumulate()["mean_ap"] == pytest.approx(1), reason
    assert evaluator.left_out == {
        "labels without area in the frame": 1,
        "detections without area in the frame": 1,
    }


@pytest.mark.parametrize("name", ["x", "y", "w", "h", "class_confidence"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(name, value):
    wrong = TWO.copy()
    wrong[name][1] = value
    with pytest.raises(ValueError, match=rf"detections: got {value} for {name} in row 1 \(t = 100000\)"):
        measure(TWO, wrong)
    if name != "class_confidence":
        with pytest.raises(ValueError, match=f"labels: got {value} for {name} in row 1"):
            measure(wrong, TWO)


def test_sizes_are_filtered_after_cropping_with_limits_included():
    rows = boxes(
        (0, 0, 0, 18, 24, 1, 1),  # diagonal 30
        (0, 50, 0, 18, 23.9, 1, 1),
        (0, 100, 0, 10, 40, 1, 1),  # side 10
        (0, 150, 0, 9.9, 40, 1, 1),
        (0, -30, 100, 50, 20, 1, 1),  # 20 x 20 remain: diagonal 28.3
        (0, 0.1, 200, 10, 39, 1, 1),  # 0.1 + 10 - 0.1 is below 10 in floats; the box does not touch the border
    )
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304, min_box_diag=30, min_box_side=10)
    evaluator.partial_eval([rows], [rows])
    assert evaluator.recordings[0].labels.row.tolist() == [0, 2, 5]
    assert evaluator.recordings[0].detections.row.tolist() == [0, 2, 5]
    assert evaluator.left_out == {"labels below the smallest box": 3, "detections below the smallest box": 3}


def test_rows_in_any_order_and_packed_records():
    packed = np.dtype([("class_confidence", "<f4"), *((n, BBOX_dtype[n]) for n in BBOX_dtype.names[:6])])
    labels = np.concatenate([TWO, TWO])
    labels["t"][2:] = 400_000
    rows = [tuple(row[name] for name in ("t", "x", "y", "w", "h", "class_id", "class_confidence")) for row in labels]
    detections = boxes(*rows[::-1], dtype=packed)
    before = detections.copy()
    assert measure(labels, detections)["mean_ap"] == pytest.approx(1)
    assert (detections == before).all()


def test_recordings_do_not_mix_and_evaluators_can_be_joined():
    whole, part, other = (CocoEvaluator(["pedestrian", "car"], 240, 304) for _ in range(3))
    whole.partial_eval([TWO, TWO], [TWO, TWO[:0]])
    part.partial_eval([TWO], [TWO])
    other.partial_eval([TWO], [TWO[:0]])
    part.recordings += other.recordings
    assert whole.accumulate() == part.accumulate()
    assert whole.accumulate()["mean_ap"] == pytest.approx(HALF)


def test_precision_recall_curves():
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304)
    with pytest.raises(RuntimeError, match="accumulate"):
        evaluator.precision_recall()
    evaluator.partial_eval([TWO], [TWO[:1]])
    evaluator.accumulate()
    curves = evaluator.precision_recall(iou=0.5)
    recall, precision = curves["car"]
    np.testing.assert_allclose(recall, np.arange(101) / 100)
    np.testing.assert_allclose(precision, [1.0] * 51 + [0.0] * 50)
    assert "pedestrian" not in curves, "it has no labels"
    with pytest.raises(ValueError, match=r"iou: got 0\.52"):
        evaluator.precision_recall(0.52)


def test_slices_ignore_the_labels_of_other_slices():
    """Two found boxes and a false one: in its slice each label is found, after the false one if that scores higher."""
    false = boxes((100_000, 200, 10, 40, 40, 1, 0.95))
    found = TWO.copy()
    found["class_confidence"] = [0.99, 0.9]
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304)
    evaluator.partial_eval([TWO], [np.concatenate([found, false])])
    ap, ap50 = evaluator.precision_by([np.array([0, 1])], 3)
    np.testing.assert_allclose(ap, [1, 0.5, np.nan])
    np.testing.assert_allclose(ap50, [1, 0.5, np.nan])
    ap, _ = evaluator.precision_by([np.array([0, 1])], 3, [np.array([0, 1, 0])])
    np.testing.assert_allclose(ap, [1, 1, np.nan], err_msg="the false one lies in slice 0, below the right one")
    ap, _ = evaluator.precision_by([np.array([0, -1])], 1)
    np.testing.assert_allclose(ap, [1], err_msg="-1 is in no slice")


def test_slices_of_sizes_equal_those_of_coco():
    sides = np.array([20, 25, 40, 60, 100, 110])
    labels = boxes(*((k * 100_000, 10, 10, side, side, 1, 1) for k, side in enumerate(sides)))
    found = labels[[0, 2, 3, 4]].copy()
    found["x"] += [1, 2, 12, 3]
    evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304)
    evaluator.partial_eval([labels], [found])
    figures = evaluator.accumulate()
    groups = [np.digitize(rows["w"], [32, 96]) for rows in (labels, found)]
    ap, _ = evaluator.precision_by([groups[0]], 3, [groups[1]])
    np.testing.assert_allclose(ap, [figures[f"mean_ap_{size}"] for size in ("small", "medium", "big")], rtol=1e-12)


def test_prints_only_if_verbose(capsys):
    quiet = measure(TWO, TWO)
    assert capsys.readouterr().out == ""
    assert measure(TWO, TWO, verbose=True) == quiet
    assert "Average Precision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["empty"]}, r"classes: got \['empty'\], allowed: at least one name besides 'empty'"),
        ({"classes": ["car", "car"]}, r"classes: got \['car', 'car'\], allowed: distinct names"),
        ({"height": 0}, r"height, width: got \(0, 304\)"),
        ({"width": 0}, r"height, width: got \(240, 0\)"),
        ({"time_tol": -1}, "time_tol: got -1"),
        ({"eval_rate": 0}, "eval_rate: got 0"),
        ({"skip_us": -1}, "skip_us: got -1"),
        ({"min_box_diag": np.nan}, "min_box_diag: got nan"),
        ({"time_tol": np.nan}, "time_tol: got nan"),
        ({"eval_rate": np.nan}, "eval_rate: got nan"),
        ({"min_box_side": -1}, "min_box_side: got -1"),
        ({"empty_frames": "drop"}, "empty_frames: got 'drop'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CocoEvaluator(**{"classes": ["car"], "height": 240, "width": 304, **arguments})


def test_bad_recordings():
    evaluator = CocoEvaluator(["car"], 240, 304)
    with pytest.raises(ValueError, match="got 1, 0 and 1 recordings"):
        evaluator.partial_eval([TWO], [])
    with pytest.raises(ValueError, match="detections: got fields t, x, required"):
        evaluator.partial_eval([TWO], [np.zeros(1, [("t", "i8"), ("x", "f4")])])


def test_what_is_left_out_is_counted_by_reason():
    """Frames of 100 us from 1000 to 1500 us, of which the labels of the first 100 us are skipped."""
    labels = boxes(
        *((900, 0, 0, 9, 9, 1, 1), (1_000, 0, 0, 9, 9, 0, 1), (1_501, 0, 0, 9, 9, 0, 1), (900, 0, 0, 9, 9, 7, 1)),
        *((1_010, 0, 0, 9, 9, 1, 1), (1_020, 0, 0, 9, 9, 0, 1), (1_020, 0, 0, 9, 9, 7, 1)),
        *((1_100, 0, 0, 9, 9, 1, 1), (1_150, 10, 10, 20, 20, 1, 1), (1_250, 0, 0, 9, 9, 7, 1)),
        *((1_350, 0, 0, 4, 9, 1, 1), (1_450, 0, 0, 9, 0, 1, 1)),
    )
    found = boxes(
        *((1_000, 0, 0, 9, 9, 1, 1), (1_600, 0, 0, 9, 9, 7, 1), (1_200, 10, 10, 20, 20, 1, 1)),
        *((1_200, 0, 0, 9, 9, 7, 1), (1_200, 0, 0, 9, 0, 7, 1), (1_200, 0, 0, 0, 9, 7, 1), (1_200, 0, 0, 0, 0, 7, 1)),
        *((1_300, 0, 0, 9, 9, 1, 1), (1_400, 0, 0, 9, 9, 1, 1), (1_400, 0, 0, 9, 4, 1, 1)),
    )
    reasons = {
        "labels outside of the recording": 3,
        "labels before the last labelled time of their frame": 2,
        "labels in the skipped start": 1,
        "labels below the smallest box": 1,
        "labels without area in the frame": 1,
        "detections outside of the recording": 2,
        "detections of classes that are not evaluated": 4,
        "detections below the smallest box": 1,
    }
    for empty_frames, value, frames in (("count", 1.0, 4), ("ignore", 1.0, 1)):
        options = {"skip_us": 100, "min_box_side": 5, "empty_frames": empty_frames}
        evaluator = CocoEvaluator(["pedestrian", "car"], 240, 304, **options)
        evaluator.partial_eval([labels], [found], [Frames(1_000, 100, 5)])
        more = {"labelled frames without a box that counts": 3} if empty_frames == "ignore" else {}
        assert +evaluator.left_out == reasons | more
        (recording,) = evaluator.recordings
        assert recording.num_frames == frames
        assert recording.labels.row.tolist() == [8] and recording.labels.frame.tolist() == [0]
        assert recording.detections.row.tolist() == ([2, 7, 8] if empty_frames == "count" else [2])
        assert recording.detections.frame.tolist() == ([0, 1, 2] if empty_frames == "count" else [0])
        assert evaluator.accumulate()["mean_ap"] == pytest.approx(value)


def test_limits_of_times_without_frames():
    labels = TWO[:1].copy()
    for t, skip_us, expected in ((0, 0, 1), (100, 100, None), (101, 100, 1)):
        labels["t"] = t
        value = measure(labels, labels, skip_us=skip_us)["mean_ap"]
        assert value == (None if expected is None else pytest.approx(expected))
    found = TWO[:1].copy()
    for late, expected in ((50_000, 1), (50_001, 0)):
        found["t"] = TWO["t"][0] + late
        assert measure(TWO[:1], found)["mean_ap"] == pytest.approx(expected)


def test_a_box_at_the_border_of_two_sizes_has_both():
    evaluator = CocoEvaluator(["car"], 240, 304)
    labels = boxes((0, 0, 0, 96, 96, 0, 1), (0, 0, 0, 100, 100, 0, 1), (0, 0, 0, 101, 100, 0, 1))
    evaluator.partial_eval([labels], [labels[:0]])
    counts = evaluator.quantities()
    assert [counts[f"mean_ap_{size}"] for size in ("small", "medium", "big")] == [0, 1, 3]
    assert [value is None for value in evaluator.accumulate().values()] == [False] * 3 + [True, False, False, False]


def test_any_length_that_differs_is_refused():
    evaluator = CocoEvaluator(["car"], 240, 304)
    with pytest.raises(ValueError, match="got 1, 1 and 2 recordings, allowed: as many of each"):
        evaluator.partial_eval([TWO], [TWO], [None, None])
    with pytest.raises(ValueError, match="labels: got fields none, required: t, x, y, w, h, class_id"):
        evaluator.partial_eval([np.zeros(3)], [TWO])
    wrong = TWO.astype([(name, "f8") for name in BBOX_dtype.names])
    wrong["class_id"][1] = 0.5
    with pytest.raises(ValueError, match="labels: got class_id = 0.5 in row 1"):
        evaluator.partial_eval([wrong], [TWO])
    assert evaluator.recordings == [] and not evaluator.left_out


def test_without_limits_any_box_with_an_area_is_evaluated():
    evaluator = CocoEvaluator(["car"], 240, 304)
    labels = boxes((0, 5, 5, 0.25, 0.5, 0, 1))
    evaluator.partial_eval([labels], [labels])
    assert evaluator.accumulate()["mean_ap"] == pytest.approx(1)
