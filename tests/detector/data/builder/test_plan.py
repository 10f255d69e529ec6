"""Counts of labels, as the plan of a recording returns them and a build prints them."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from small_recordings import DELTA_T, NAMES, START, WIDTH, config, make_events, make_labels, make_recording

from detector.data.builder.dataset import build_dataset
from detector.data.builder.plan import Plan, check_plan, plan_pieces
from detector.data.builder.source import Source
from detector.events import BBOX_dtype
from detector.labels import LabelTiming, load_labels, save_labels


def counts_of(folder, labels, events=None, cuts=None, **options):
    """Build of one recording with these labels: the counts, and the times that are kept."""
    recording = make_recording(folder / "train", events=events)
    save_labels(folder / "train" / "street_bbox.npy", labels)
    output = build_dataset([recording], folder / "out", config(), cuts, NAMES, progress=False, **options)
    kept = [load_labels(path)["t"].tolist() for path in sorted(output.glob("*/*_bbox.npy"))]
    return plan_pieces(Source(recording), Plan(output, config(), cuts, NAMES, **options))[1], kept


def test_labels_that_are_not_kept_are_counted(tmp_path, capsys):
    labels = make_labels([START - 1, START, START + 1, START + 2, 3_200_000, 3_200_001, 3_200_001])
    labels["class_id"][2] = 7
    labels["x"][3] = WIDTH
    counts, kept = counts_of(tmp_path, labels)
    assert kept == [[START + 1, START + 2, 3_200_000]]
    assert (counts.source, counts.boxes) == (str(tmp_path / "train" / "street_bbox.npy"), 7)
    assert (counts.before, counts.after, counts.unknown, counts.off_sensor) == (2, 2, 1, 1)
    assert (counts.repeated, counts.superseded) == (1, 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        f"labels in the format npy: {tmp_path}/train/street_bbox.npy",
        "labels: 2 of 7 boxes kept",
        "  4 boxes outside the recordings: 2 at or before their start, 2 after their last frame",
    ]
    assert lines[-1] == "train: 1 tensor file, 20 frames, 3 labelled times, 1 box"


def test_detections_and_other_labels_are_noted(tmp_path):
    recording = make_recording(tmp_path / "train")
    plan = Plan(tmp_path / "out", config(), None, NAMES)
    assert plan_pieces(Source(recording), plan)[1].notes == ()
    other = tmp_path / "train" / "street.csv"
    other.write_text("t,x,y,w,h,class_id\n2000000,1,2,3,4,0\n")
    others = "not used: street.csv; select one by --labels PATH"
    assert plan_pieces(Source(recording), plan)[1].notes == (others,)
    other.unlink()
    frames = {"first_t": START, "delta_t": DELTA_T, "num_frames": 20}
    (tmp_path / "train" / "street_bbox.npy.frames.json").write_text(json.dumps(frames))
    note = "these boxes are detections of a model; other labels are used by --labels PATH"
    assert plan_pieces(Source(recording), plan)[1].notes[-1] == note


def test_a_split_is_that_of_the_source_or_its_folder(tmp_path):
    plan = Plan(tmp_path / "out", config(), None, NAMES)
    check_plan([Source(tmp_path / "val" / "a.raw"), Source(tmp_path / "in" / "b.raw", split="test")], plan)
    with pytest.raises(
        ValueError, match=r"a\.raw: its folder in is not a split, allowed: train, val, test, or cuts by"
    ):
        check_plan([Source(tmp_path / "in" / "a.raw")], plan)
    check_plan([Source(tmp_path / "in" / "a.raw")], replace(plan, cuts={"val": (0, 1), "train": (1, 2)}))


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ({"val": (1, 2), "train": (0, 1.1)}, "cuts: train ends at 1.1 s, val starts at 1 s, allowed: no overlap"),
        ({"val": (1, 1)}, "cut val: got 1 to 1 s, allowed: 0 <= start < end"),
        ({"val": (-0.1, 1)}, "cut val: got -0.1 to 1 s"),
        ({"val": (0, float("inf"))}, "cut val: got 0 to inf s"),
        ({"valid": (0, 1)}, "cuts: unknown split valid, allowed: train, val, test"),
    ],
)
def test_cuts_that_are_not_allowed(tmp_path, cuts, message):
    with pytest.raises(ValueError, match=message):
        check_plan([Source(tmp_path / "a.raw")], Plan(tmp_path / "out", config(), cuts, NAMES))


def test_a_cut_ends_at_most_a_second_after_the_last_frame(tmp_path):
    source, plan = Source(make_recording(tmp_path)), Plan(tmp_path / "out", config(), None, NAMES)
    ((piece,), _) = plan_pieces(source, replace(plan, cuts={"val": (1.9, 3)}))  # the recording has 20 frames, 2 s
    assert (piece.frames.first_t, piece.frames.num_frames) == (3_100_000, 11)
    for cut in ((1.9, 3.1), (2, 2.5)):
        with pytest.raises(ValueError, match="cut val .* s, allowed: within the recording, 0 to 2 s"):
            plan_pieces(source, replace(plan, cuts={"val": cut}))


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [({}, (20, 2, 8, 12)), ({"height": 4}, (20, 2, 4, 6)), ({"width": 3}, (20, 2, 2, 3))],
)
def test_the_shape_of_the_tensors(tmp_path, sizes, shape):
    recording = make_recording(tmp_path / "train")
    ((piece,), _) = plan_pieces(Source(recording), Plan(tmp_path / "out", config(**sizes), None, NAMES))
    assert piece.shape == shape
    assert (piece.target, piece.labels_target) == tuple(
        tmp_path / "out" / "train" / name for name in ("street.h5", "street_bbox.npy")
    )


def test_a_split_without_boxes_is_no_error_but_has_a_warning(tmp_path, capsys):
    labels = make_labels([1_300_000, 1_400_000, 2_000_000])
    counts, kept = counts_of(tmp_path, labels, cuts={"val": (1.5, 2), "train": (0, 1)})
    assert kept == [[1_300_000, 1_400_000, 2_000_000], []]
    assert [(part.split, part.frames, part.times, part.boxes) for part in counts.splits] == [
        ("val", 5, 0, 0),
        ("train", 10, 3, 3),
    ]
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "train: 1 tensor file, 10 frames, 3 labelled times, 3 boxes",
        "val: 1 tensor file, 5 frames, 0 labelled times, 0 boxes",
        "warning: val has no box of a known class on the sensor: the labels are at 1.300 to 2.000 s, the frames at "
        "2.700 to 3.200 s; likely causes: the cut --val, the frame rate --label_fps of numbered images, "
        "--label_time_unit or --label_offset",
    ]


def test_numbered_images_that_end_early_are_noted(tmp_path, capsys):
    recording = make_recording(tmp_path / "train")  # events last 1.916 s
    (tmp_path / "train" / "street_bbox.npy").unlink()
    (tmp_path / "train" / "street_gt.txt").write_text("1,1,2,3,4,4,1,3,1\n20,1,2,3,4,4,1,3,1\n")
    build = partial(build_dataset, [recording], data=config(), label_map=NAMES)
    build(output=tmp_path / "a", timing=LabelTiming(fps=25))
    assert "street_gt.txt: 20 images at 25 per second cover 0.8 s of 1.9 s; if" in capsys.readouterr().err
    build(output=tmp_path / "b", timing=LabelTiming(fps=10))
    assert "images at" not in capsys.readouterr().err


def test_a_label_at_the_start_of_a_cut_belongs_to_no_frame(tmp_path):
    labels = make_labels([1_300_000, 2_200_000, 2_200_001, 3_100_000])
    counts, kept = counts_of(tmp_path, labels, cuts={"train": (0, 1), "val": (1, 1.5)})
    assert kept == [[1_300_000, 2_200_000], [2_200_001]]
    assert (counts.before, counts.after, counts.uncut) == (0, 0, 1)
    counts, kept = counts_of(tmp_path / "b", labels, cuts={"val": (1, 1.5)})
    assert (counts.uncut, kept) == (3, [[2_200_001]])


def test_events_later_than_labels_are_told_with_the_offset_that_mends_them(tmp_path, capsys):
    events = make_events(first=0, last=3_049_999)
    labels = make_labels(np.repeat(np.arange(50_000, 3_000_001, 50_000), 2))
    labels["track_id"] = labels["x"] = np.arange(labels.size) % 2
    counts_of(tmp_path / "sound", labels, events)
    assert capsys.readouterr().err == ""
    events["t"] += 2_000_000
    counts, kept = counts_of(tmp_path / "shifted", labels, events)
    assert (counts.boxes, counts.before, len(kept[0])) == (120, 80, 40)
    assert "labels (0.050 to 3.000 s) seem about 2.0 s earlier than the events (2.000 to 5.050 s)" in counts.causes[0]
    assert counts.causes[0].endswith("give `build` --label_offset 2000000")
    counts, kept = counts_of(tmp_path / "mended", labels, events, timing=LabelTiming(offset=2_000_000))
    assert (counts.before, counts.causes, kept[0][0], len(kept[0])) == (0, (), 2_050_000, 120)
    events["t"] += 10**7
    with pytest.raises(ValueError, match=r"labels from 50000 to 3000000 us, allowed: .*; .* about 12\.0 s earl"):
        counts_of(tmp_path / "far", labels, events)


def test_label_times_in_seconds(tmp_path):
    kinds = [(name, "<f8" if name == "t" else BBOX_dtype[name]) for name in BBOX_dtype.names]
    labels = make_labels([1]).astype(kinds).repeat(10)
    labels["t"] = np.arange(1, 11) / 10 + 1.9
    recording = make_recording(tmp_path / "train")
    np.save(tmp_path / "train" / "street_bbox.npy", labels)
    build = partial(build_dataset, [recording], tmp_path / "out", config(), None, NAMES, False)
    with pytest.raises(ValueError, match="label field t holds fractions, the first 2.1 in box 1, .*--label_time_u"):
        build()
    build(timing=LabelTiming("s"))
    assert load_labels(tmp_path / "out" / "train" / "street_bbox.npy")["t"].tolist() == list(
        range(2_000_000, 2_900_001, 100_000)
    )


def test_two_recordings_have_two_tensor_files(tmp_path):
    plan = Plan(tmp_path / "out", config(), None, NAMES)
    one, two = Source(tmp_path / "a" / "x_td.dat", "val"), Source(tmp_path / "b" / "x.raw", "val")
    with pytest.raises(ValueError, match=r"a/x_td.dat and .*b/x.raw would both become .*out/val/x$"):
        check_plan([one, two], plan)
    check_plan([one, replace(two, split="test")], plan)
    check_plan([one, replace(two, name="y")], plan)
