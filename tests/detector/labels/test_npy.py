import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels import load_labels, save_labels


def boxes(times):
    labels = np.zeros(len(times), BBOX_dtype)
    labels["t"] = times
    labels["x"] = np.arange(len(times))
    labels["class_id"] = 2
    labels["class_confidence"] = 0.5
    return labels


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
    with pytest.raises(ValueError, match="cut.npy: not a whole .npy file") as caught:
        load_labels(tmp_path / "cut.npy")
    assert "\n" not in str(caught.value)
    (tmp_path / "text.npy").write_text("boxes")
    with pytest.raises(ValueError, match="text.npy: not a whole .npy file"):
        load_labels(tmp_path / "text.npy")


@pytest.mark.parametrize(
    ("field", "dtype", "value", "message"),
    [
        ("class_id", "<i4", -1, "class_id runs from -1 to -1, allowed: 0 to 4294967295"),
        ("track_id", "<i8", 1 << 32, "track_id runs from 4294967296"),
        ("x", "<f4", np.nan, "x holds NaN"),
        ("t", "<f8", np.inf, "t holds NaN or infinity"),
        ("w", "S4", b"wide", "w has dtype"),
    ],
)
def test_values_that_would_turn_into_others_are_refused(tmp_path, field, dtype, value, message):
    fields = [(name, dtype if name == field else BBOX_dtype[name].str) for name in BBOX_dtype.names]
    labels = np.zeros(1, fields)
    labels[field] = value
    with pytest.raises(ValueError, match=message):
        save_labels(tmp_path / "a.npy", labels)
    assert list(tmp_path.iterdir()) == []
