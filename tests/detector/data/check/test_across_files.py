"""Faults that only the comparison of several files shows. Most of these files do not exist: their headers decide."""

from pathlib import Path

import numpy as np
import pytest

from detector.data.check.across_files import CheckedFile, check_set
from detector.data.check.event_faults.sketch import Sketch
from detector.data.check.inventory import DataFile, FileContent, TensorHeader

ROOT = Path("set")
NAMES = {0: "car", 1: "walker"}
TIMES = range(100_000, 1_000_001, 100_000)


def header(**changes):
    """Header of 20 frames of 50 ms of a sensor of 60 rows and 80 columns."""
    fields = {"shape": (20, 2, 60, 80), "dtype": np.dtype("uint8"), "preprocess": "histo", "max_incr_per_pixel": 5.0}
    grid = {"delta_t": 50_000, "first_t": 0, "sensor_size": (60, 80), "sha256": None}
    return TensorHeader(**{**fields, **grid, **changes})


def tensors(path, times=TIMES, class_ids=(0, 1), sketches=(None, None), **changes):
    """A tensor file with labels at every second frame; its checksum is its name, so that no two files are equal."""
    path = ROOT / path
    found = header(**{"sha256": path.stem, **changes})
    split = path.parent.name if path.parent != ROOT else None
    ids = None if class_ids is None else frozenset(class_ids)
    content = FileContent(found.sensor_size, found.grid, None, found)
    return CheckedFile(DataFile(path, split, True), content, np.array(times, np.int64), ids, *sketches)


def facts(*files, root=ROOT):
    return [(each.severity, each.path, each.kind, each.found) for each in check_set(root, files, NAMES)]


def test_files_without_a_fault():
    assert facts() == []
    assert facts(*(tensors(f"{split}/{split}{index}.h5") for split in ("train", "val") for index in range(2))) == []


@pytest.mark.parametrize(
    ("changes", "kind", "found", "usual"),
    [
        ({"shape": (20, 2, 64, 80)}, "height differs", "64", "60"),
        ({"shape": (20, 2, 60, 96)}, "width differs", "96", "80"),
        ({"shape": (20, 6, 60, 80)}, "channels differs", "6", "2"),
        ({"delta_t": 60_000}, "delta_t differs", "60000", "50000"),
        ({"preprocess": "event_cube"}, "preprocess differs", "event_cube", "histo"),
        ({"max_incr_per_pixel": 7.0}, "max_incr_per_pixel differs", "7.0", "5.0"),
    ],
)
def test_tensor_files_that_differ(changes, kind, found, usual):
    others = tensors("a.h5"), tensors("b.h5"), tensors("unknown.h5", preprocess=None, max_incr_per_pixel=None)
    known = 3 - (kind.split()[0] in ("preprocess", "max_incr_per_pixel"))
    (finding,) = check_set(ROOT, [tensors("odd.h5", **changes), *others], NAMES)
    assert (finding.severity, finding.path, finding.kind) == ("error", ROOT / "odd.h5", kind)
    assert (finding.found, finding.allowed) == (found, f"{usual}, as in {known} other files")


@pytest.mark.parametrize("place", [None, 0, (4 << 20) // 2 + 5, (4 << 20) - 1])
def test_copies_of_files_that_do_not_tell_their_source(tmp_path, place):
    """Files of 4 MB are compared by their first, middle and last megabyte."""
    paths = [tmp_path / split / f"{split}.h5" for split in ("train", "val", "test")]
    for path, size in zip(paths, (4 << 20, 4 << 20, 3 << 20), strict=True):
        path.parent.mkdir()
        path.write_bytes(bytes(size))
    if place is not None:
        with paths[1].open("r+b") as file:
            file.seek(place)
            file.write(b"\1")
    files = [tensors(path, sha256=None) for path in paths]
    copied = ("error", paths[1], "in two splits", f"same content as {paths[0]}")
    assert facts(*files, root=tmp_path) == ([copied] if place is None else [])


def test_copies_in_one_split_are_allowed(tmp_path):
    (tmp_path / "train").mkdir()
    for name in "ab":
        (tmp_path / "train" / f"{name}.h5").write_bytes(b"same")
    assert facts(*(tensors(tmp_path / "train" / f"{name}.h5", sha256=None) for name in "ab")) == []


def test_one_moment_of_a_recording_in_two_splits():
    first = tensors("train/a.h5", sha256="1")
    later = tensors("val/b.h5", range(1_000_000, 1_900_001, 100_000), sha256="1", first_t=900_000)
    text = f"900000 to 1000000 us of the source are in {ROOT}/train/a.h5 too"
    assert facts(first, later) == [("error", ROOT / "val/b.h5", "in two splits", text)]
    next_one = tensors("val/b.h5", range(1_100_000, 2_000_001, 100_000), sha256="1", first_t=1_000_000)
    assert facts(first, next_one) == []
    assert facts(first, tensors("train/b.h5", sha256="1")) == []
    assert facts(first, tensors("val/b.h5", sha256="2")) == []


def recording(path, start, end):
    """A recording of `start` to `end`, of which other files of the same size would be compared by their content."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(str(path).encode())
    grid = header(first_t=start, shape=((end - start) // 50_000, 2, 60, 80)).grid
    labels = path.with_name(f"{path.stem}_bbox.npy")
    file = DataFile(path, path.parent.name, False, labels=labels)
    return CheckedFile(file, FileContent((60, 80), grid), np.arange(start, end + 1, 100_000), frozenset({0}))


def test_names_that_tell_overlapping_times_of_one_recording(tmp_path):
    times = {"train": (5_000_000, 6_000_000), "test": (5_400_000, 6_400_000)}
    files = [recording(tmp_path / split / f"a_{start}_{end}.raw", start, end) for split, (start, end) in times.items()]
    text = f"5400000 to 6000000 us of the source are in {tmp_path}/train/a_5000000_6000000.raw too"
    assert facts(*files) == [("error", tmp_path / "test" / "a_5400000_6400000.raw", "in two splits", text)]


@pytest.mark.parametrize(("end", "number"), [(1_100_000, 1), (1_100_001, 0), (900_000, 1), (899_999, 0)])
def test_times_in_names_are_up_to_a_tenth_longer_or_shorter_than_the_recording(tmp_path, end, number):
    paths = [tmp_path / split / f"a_{start}_{start + end}.raw" for split, start in (("train", 0), ("val", 500_000))]
    found = check_set(ROOT, [recording(path, 0, 1_000_000) for path in paths], NAMES)
    assert [each.kind for each in found] == ["in two splits"] * number


def test_numbers_in_names_that_are_no_times(tmp_path):
    files = [recording(tmp_path / split / f"cam_{text}.raw", 0, 1_000_000) for split, text in (("val", "1_3"),)]
    assert facts(*files, recording(tmp_path / "test" / "cam_2_4.raw", 0, 1_000_000)) == []


def test_one_name_in_two_splits():
    files = tensors("train/a.h5", sha256="1"), tensors("val/a.h5", sha256="2"), tensors("val/b.h5")
    text = "1 times with other content, first a"
    assert facts(*files) == [("warning", ROOT, "one name in two splits", text)]
    assert facts(tensors("train/a.h5", sha256="1"), tensors("train/c.h5", sha256="2")) == []
    (found,) = facts(tensors("train/a.h5", sha256="1"), tensors("val/a.h5", sha256="1"))
    assert found[:3] == ("error", ROOT / "val/a.h5", "in two splits")  # a copy, which is not counted twice


def sketch(start, stop):
    return Sketch(np.arange(start, stop, dtype=np.uint64), True)


@pytest.mark.parametrize(
    ("what", "one", "other", "share"),
    [
        ("events", (0, 1000), (800, 1800), "20%"),
        ("events", (0, 1000), (801, 1801), None),  # 19.9 %
        ("events", (0, 300), (0, 900), "100%"),
        ("events", (0, 299), (0, 900), None),  # too few
        ("boxes", (0, 500), (100, 600), "80%"),
        ("boxes", (0, 500), (101, 601), None),
        ("boxes", (0, 100), (0, 900), "100%"),
        ("boxes", (0, 99), (0, 900), None),
    ],
)
def test_files_with_common_events_or_boxes(what, one, other, share):
    place = ("events", "boxes").index(what)
    pairs = [[None, None], [None, None]]
    pairs[0][place], pairs[1][place] = sketch(*one), sketch(*other)
    found = check_set(ROOT, [tensors("train/a.h5", sketches=pairs[0]), tensors("val/b.h5", sketches=pairs[1])], NAMES)
    assert [(each.path, each.kind) for each in found] == [(ROOT / "val/b.h5", "in two splits")] * (share is not None)
    if share is not None:
        assert found[0].found == f"about {share} of its {what} or of those of {ROOT}/train/a.h5 are in both files"
        (bars,) = found[0].evidence
        assert (bars.title, bars.marked) == ("train/a.h5 and val/b.h5", ("in both files",))
        assert bars.xlabel.startswith(f"{what} of the shorter file (%)")
        percent = float(share.rstrip("%"))
        assert bars.values == pytest.approx({"in both files": percent, "in one file": 100 - percent})
    assert facts(tensors("val/a.h5", sketches=pairs[0]), tensors("val/b.h5", sketches=pairs[1])) == []


def test_classes_that_a_split_lacks():
    files = tensors("train/a.h5"), tensors("train/b.h5", class_ids=(1, 7)), tensors("val/c.h5", class_ids=(1,))
    assert facts(*files) == [("warning", ROOT / "val", "split lacks a class", "no box of car, class 7")]
    unread = tensors("val/d.h5", class_ids=None)  # it may have cars
    assert facts(*files, unread) == []
    assert facts(tensors("a.h5"), tensors("b.h5", class_ids=(1,))) == []  # no splits


def test_label_rates_that_differ():
    usual = [tensors("a.h5"), tensors("b.h5")]
    assert facts(*usual, tensors("c.h5", range(50_000, 1_000_001, 50_000))) == []  # twice as often
    (found,) = check_set(ROOT, [*usual, tensors("c.h5", range(10_000, 1_000_001, 40_000))], NAMES)
    assert (found.severity, found.path, found.kind) == ("warning", ROOT, "label rates differ")
    assert found.found == "1 of 3 files, first c_bbox.npy with 25 Hz"
    assert found.allowed == "within a factor of 2 of the median, 10 Hz"
    rare = tensors("c.h5", (100_000, 350_000), shape=(7, 2, 60, 80)), tensors("d.h5", (100_000,)), tensors("e.h5", ())
    assert [each.found for each in check_set(ROOT, [*usual, *rare], NAMES)] == [
        "1 of 3 files, first c_bbox.npy with 4 Hz"
    ]


def test_frames_without_labels():
    # Of the 20 frames, those that end at 200, 400, ..., 1000 ms are labelled: 5 of 17 from the first to the last.
    rare = tensors("a.h5", range(200_000, 1_000_001, 200_000))
    text = "71% of the frames between labels have none"
    assert facts(rare) == [("warning", ROOT, "delta_t does not fit the label times", text)]
    # Frames 1, 3, 5 and 7: 3 of 7 have none. Labels at the start and after the end belong to no frame.
    assert facts(tensors("a.h5", (0, 100_000, 200_000, 300_000, 400_000, 9_000_000))) == []
    assert facts(tensors("a.h5", range(200_000, 1_000_001, 200_000), delta_t=None)) == []


def test_one_finding_of_a_kind_for_each_file():
    times = range(900_000, 1_000_001, 100_000)
    parts = [tensors(f"train/{name}.h5", sha256="1") for name in "ab"]
    found = facts(*parts, tensors("val/c.h5", times, sha256="1", first_t=500_000))
    text = f"500000 to 1000000 us of the source are in {ROOT}/train/a.h5 too"
    assert found == [("error", ROOT / "val/c.h5", "in two splits", text)]
