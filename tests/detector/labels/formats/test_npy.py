import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels import load_labels, save_labels
from detector.labels.formats.npy import is_dsec, npy_fields, read_npy


def boxes(times):
    labels = np.zeros(len(times), BBOX_dtype)
    labels["t"] = times
    labels["x"] = np.arange(len(times))
    labels["class_id"] = 2
    labels["class_confidence"] = 0.5
    return labels


def types_with(field, dtype):
    """The fields of `BBOX_dtype`, one of them of another type."""
    return [(name, dtype) if name == field else (name, BBOX_dtype[name].str) for name in BBOX_dtype.names]


def load_times(path, times, dtype, name="t", **arguments):
    labels = np.zeros(len(times), [(name if field == "t" else field, kind) for field, kind in types_with("t", dtype)])
    labels[name] = times
    np.save(path, labels)
    return load_labels(path, **arguments)["t"].tolist()


def test_round_trip_sorts_by_time_and_keeps_the_order_within(tmp_path):
    given = boxes([30, 10, 30, 20])
    save_labels(tmp_path / "a_bbox.npy", given)
    loaded = load_labels(tmp_path / "a_bbox.npy")
    assert loaded.dtype == BBOX_dtype
    assert loaded["t"].tolist() == [10, 20, 30, 30]
    assert loaded["x"].tolist() == [1, 3, 0, 2]
    assert given["t"].tolist() == [30, 10, 30, 20]
    assert [path.name for path in tmp_path.iterdir()] == ["a_bbox.npy"]


def test_equal_boxes_make_equal_files(tmp_path):
    given = boxes([30, 10, 20])
    given.view(np.uint8).reshape(3, 40)[:, 36:] = [[1], [2], [3]]  # bytes that belong to no field
    save_labels(tmp_path / "a_bbox.npy", given)
    save_labels(tmp_path / "b_bbox.npy", boxes([30, 10, 20]))
    assert (tmp_path / "a_bbox.npy").read_bytes() == (tmp_path / "b_bbox.npy").read_bytes()


def test_dtype_layout():
    assert BBOX_dtype.itemsize == 40
    assert [BBOX_dtype.fields[name][1] for name in BBOX_dtype.names] == [0, 8, 12, 16, 20, 24, 28, 32]


def test_legacy_names_other_order_packed(tmp_path):
    packed = np.dtype(
        [("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1")]
        + [("confidence", "<f4"), ("track_id", "<u4")]
    )
    assert packed.itemsize == 33
    old = np.array([(5, 1, 2, 3, 4, 6, 0.25, 9)], packed)
    np.save(tmp_path / "old_bbox.npy", old)
    loaded = load_labels(tmp_path / "old_bbox.npy")[0]
    assert loaded.dtype == BBOX_dtype
    assert loaded.tolist() == (5, 1.0, 2.0, 3.0, 4.0, 6, 9, 0.25)


def test_no_boxes(tmp_path):
    save_labels(tmp_path / "none_bbox.npy", boxes([]))
    assert load_labels(tmp_path / "none_bbox.npy").shape == (0,)


def test_wrong_fields_name_found_and_required(tmp_path):
    np.save(tmp_path / "bad_bbox.npy", np.zeros(2, [("t", "<i8"), ("left", "<f4")]))
    with pytest.raises(ValueError, match=r"bad_bbox.npy: label fields found: t, left; required: t, x, y, w, h, class"):
        load_labels(tmp_path / "bad_bbox.npy")
    np.save(tmp_path / "plain_bbox.npy", np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"plain_bbox.npy: label fields found: none \(dtype float64\)"):
        load_labels(tmp_path / "plain_bbox.npy")


def test_missing_truncated_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npy: no such label file"):
        load_labels(tmp_path / "none.npy")
    save_labels(tmp_path / "cut.npy", boxes([1, 2]))
    content = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-1])
    with pytest.raises(ValueError, match="cut.npy: not a complete label file of format npy") as caught:
        load_labels(tmp_path / "cut.npy")
    assert "\n" not in str(caught.value)
    (tmp_path / "text.npy").write_text("boxes")
    with pytest.raises(ValueError, match="text.npy: not a complete label file of format npy"):
        load_labels(tmp_path / "text.npy")


@pytest.mark.parametrize(
    ("field", "dtype", "value", "message"),
    [
        ("class_id", "<i4", -1, "class_id runs from -1 to -1, allowed: 0 to 4294967295"),
        ("track_id", "<i8", 1 << 32, "track_id runs from 4294967296"),
        ("x", "<f4", np.nan, "x holds NaN"),
        ("t", "<f8", np.inf, "t holds NaN or infinity"),
        ("w", "S4", b"wide", "w has dtype"),
        ("t", "<f8", 0.1, "label field t holds fractions, the first 0.1 in box 0, allowed: .*--label_time_unit s"),
        ("t", "<f4", 1e20, "t runs from 100000002004087734272"),
        ("t", "<u8", 2**64 - 1, "t runs from 18446744073709551615"),
        ("t", "<M8[us]", 5, "t has dtype"),
        ("t", "?", True, "t has dtype bool"),
        ("class_id", "<f8", 1.5, "class_id holds fractions, the first 1.5 in box 0, allowed: whole numbers"),
        ("class_id", "<f8", -1.0, "class_id runs from -1 to -1"),
        ("class_id", "<i8", 2**32, "class_id runs from 4294967296"),
        ("track_id", "<f4", 0.25, "track_id holds fractions"),
        ("x", "<f8", 1e300, "x runs from 1e[+]300"),
        ("h", ("<f4", (2,)), (1, 2), "h has dtype"),
    ],
)
def test_values_that_would_turn_into_others_are_refused(tmp_path, field, dtype, value, message):
    labels = np.zeros(1, types_with(field, dtype))
    labels[field] = value
    with pytest.raises(ValueError, match=message):
        save_labels(tmp_path / "a.npy", labels)
    assert list(tmp_path.iterdir()) == []
    np.save(tmp_path / "a.npy", labels)
    with pytest.raises(ValueError, match=f"a.npy: .*{message}") as caught:
        load_labels(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t", "ts", "timestamp"])
def test_seconds_are_rounded_to_microseconds(tmp_path, name):
    times = [k / 10 for k in range(100, 0, -1)]  # 0.1 * 3 and the like are no exact binary fractions
    expected = [k * 100_000 for k in range(1, 101)]
    assert load_times(tmp_path / "a.npy", times, "<f8", name, time_unit="s") == expected
    with pytest.raises(ValueError, match=f"label field {name} holds fractions, the first 9.9 in box 1, allowed: whole"):
        load_times(tmp_path / "a.npy", times, "<f8", name)


@pytest.mark.parametrize(
    ("times", "dtype", "unit", "expected"),
    [
        ([1.0, 4_294_967_297.0], "<f8", "us", [1, 2**32 + 1]),  # whole numbers in floats
        ([-1.5, 0.0000004, 0.0000006], "<f8", "s", [-1_500_000, 0, 1]),
        ([0.1, 0.2], "<f4", "s", [100_000, 200_000]),
        ([1, 4295], "<i4", "s", [1_000_000, 4_295_000_000]),  # beyond 32 bits
        ([16.667, 33.333], "<f8", "ms", [16_667, 33_333]),
        ([7], "|u1", "ms", [7_000]),
        ([1_499, 1_500, 5_000_000_000], "<i8", "ns", [1, 2, 5_000_000]),
        ([1_499.0, 2_501.0], "<f8", "ns", [1, 3]),
        ([3, 1, 2], ">i4", "us", [1, 2, 3]),
        ([], "<f8", "s", []),
    ],
)
def test_times_of_every_unit_and_type(tmp_path, times, dtype, unit, expected):
    assert load_times(tmp_path / "a.npy", times, dtype, time_unit=unit) == expected
    assert load_times(tmp_path / "a.npy", times, dtype, time_unit=unit, offset=-3) == [t - 3 for t in expected]


def test_times_that_no_unit_makes_64_bits(tmp_path):
    with pytest.raises(ValueError, match="t runs from 9223372036855 to 9223372036855 s, allowed: times of 64 bits"):
        load_times(tmp_path / "a.npy", [9223372036855], "<i8", time_unit="s")
    with pytest.raises(ValueError, match="label_time_unit: got 'min', allowed: us, ms, s, ns"):
        load_times(tmp_path / "a.npy", [1], "<i8", time_unit="min")


def test_the_fields_of_files_with_boxes(tmp_path):
    names = ("x", "y", "w", "h", "class_id", "timestamp")
    for file, fields in (("boxes", names), ("untimed", names[:-1]), ("untyped", (*names[:4], "t"))):
        np.save(tmp_path / f"{file}.npy", np.zeros(2, [(name, "<f4") for name in fields]))
    np.save(tmp_path / "plain.npy", np.zeros(2))
    (tmp_path / "text.npy").write_text("boxes")
    assert npy_fields(tmp_path / "boxes.npy") == names
    for other in ("untimed", "untyped", "plain", "text", "none"):
        assert npy_fields(tmp_path / f"{other}.npy") == ()
    assert [is_dsec(tmp_path / name, names) for name in ("tracks.npy", "a_tracks.npy", "boxes.npy")] == [1, 1, 0]
    assert not is_dsec(tmp_path / "tracks.npy", ())


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_versions_of_the_format_and_bytes_after_the_array(tmp_path, version):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, boxes([3, 7]), version=version)
        file.write(b"rest")
    assert read_npy(tmp_path / "a.npy")["t"].tolist() == [3, 7]
    np.save(tmp_path / "b.npy", np.array([{}, None]))
    with pytest.raises(ValueError, match="^the file contains Python objects, allowed: structured boxes$"):
        read_npy(tmp_path / "b.npy")
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "c.npy").write_bytes(content[:-5])
    with pytest.raises(ValueError, match="^the file contains a part of the 2 boxes in its header, allowed: a complete"):
        read_npy(tmp_path / "c.npy")
