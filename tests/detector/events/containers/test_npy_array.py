import numpy as np
import pytest

from detector.events import EventCD, open_events
from detector.events.faults import Faults

HEIGHT, WIDTH = 240, 320
EVENTS = np.array([(96, 133, 0, 3811), (5, 6, 1, 3811), (7, 200, 0, 3900), (300, 9, 1, 70_000)], EventCD)


def read(path, **sizes):
    with open_events(path, **{"height": HEIGHT, "width": WIDTH, **sizes}) as reader:
        return reader.read()


def write_array(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    return tmp_path / "a.npy"


def columns(order, scale=1):
    return np.stack([EVENTS[name] / scale if name == "t" else EVENTS[name] for name in order], axis=1)


@pytest.mark.parametrize("order", ["txyp", "xypt"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float64])
def test_plain_arrays(tmp_path, order, dtype):
    assert np.array_equal(read(write_array(tmp_path, columns(order).astype(dtype))), EVENTS)
    assert np.array_equal(read(write_array(tmp_path, np.asfortranarray(columns(order).astype(dtype)))), EVENTS)


@pytest.mark.parametrize("order", ["txyp", "xypt"])
def test_plain_arrays_in_seconds(tmp_path, order):
    assert np.array_equal(read(write_array(tmp_path, columns(order, 1e6))), EVENTS)


@pytest.mark.parametrize(
    "dtype",
    [
        EventCD,
        [("t", "<u4"), ("x", "<i2"), ("y", "u1"), ("p", "?")],
        [("timestamp", ">i8"), ("polarity", "i1"), ("id", "f4"), ("y", "<f4"), ("x", "<u8")],
        [("ts", "<u8"), ("pol", "f8"), ("y", "<u2"), ("x", "<u2")],
    ],
)
def test_records_by_name(tmp_path, dtype):
    array = np.zeros(EVENTS.size, dtype)
    for name in set(array.dtype.names) - {"id"}:
        array[name] = EVENTS[name[0]]
    assert np.array_equal(read(write_array(tmp_path, array)), EVENTS)


def test_records_in_seconds(tmp_path):
    array = np.zeros(EVENTS.size, [("x", "u2"), ("y", "u2"), ("p", "i1"), ("t", "f8")])
    for name in "xyp":
        array[name] = EVENTS[name]
    array["t"] = EVENTS["t"] / 1e6
    assert np.array_equal(read(write_array(tmp_path, array)), EVENTS)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5)), r"float64 of shape \(3, 5\), allowed: \(N,\) records"),
        (np.zeros(3), r"float64 of shape \(3,\)"),
        (np.zeros((3, 4), "U3"), "<U3 of shape"),
        (np.zeros((3, 4), EventCD), r"of shape \(3, 4\)"),
        (np.zeros(3, [("x", "u2"), ("y", "u2"), ("t", "i8")]), "no events: found x, y, t; required: x, y, p|polarity"),
        (np.zeros(3, [("x", "U2"), ("y", "u2"), ("p", "u2"), ("t", "i8")]), "x is <U2, allowed: whole numbers"),
    ],
)
def test_other_arrays(tmp_path, array, message):
    with pytest.raises(ValueError, match=f"a.npy: .*{message}"):
        read(write_array(tmp_path, array))


def test_pickles_and_truncated_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="a.npy: not a readable NPY file"):
        read(tmp_path / "a.npy")
    whole = write_array(tmp_path, EVENTS).read_bytes()
    for size in (7, 20):
        (tmp_path / "a.npy").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="a.npy: not a readable NPY file"):
            read(tmp_path / "a.npy")


@pytest.mark.parametrize("array", [columns("txyp"), EVENTS], ids=["columns", "records"])
@pytest.mark.parametrize("missing", [0, 1])
def test_an_array_that_is_cut_off_is_read_up_to_the_last_complete_event(tmp_path, array, missing):
    path = write_array(tmp_path, array)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - missing])
    with open_events(path, height=HEIGHT, width=WIDTH, max_faulty_events=0.5) as reader:
        assert np.array_equal(reader.read(), EVENTS[: 4 - missing])
        assert reader.faults == Faults(truncated=missing)


@pytest.mark.parametrize("order", ["txyp", "xypt", "xytp"])
def test_all_orders_of_plain_arrays(tmp_path, order):
    assert np.array_equal(read(write_array(tmp_path, columns(order))), EVENTS)


def test_an_order_that_is_not_certain_is_given(tmp_path):
    path = write_array(tmp_path, np.array([[1, 2, 3, 1], [2, 3, 4, 0]]))
    with pytest.raises(ValueError, match="a.npy: .* more than one order: t,x,y,p or x,y,t,p; .*--data.event_columns"):
        read(path)
    assert read(path, event_columns="t,x,y,p").tolist() == [(2, 3, 1, 1), (3, 4, 0, 2)]
    assert read(path, event_columns="x,y,t,p").tolist() == [(1, 2, 1, 3), (2, 3, 0, 4)]
    with pytest.raises(ValueError, match="a.npy: data.event_columns: got 't,x,y,p,id', allowed: 4 names"):
        read(path, event_columns="t,x,y,p,id")
    five = write_array(tmp_path, np.array([[1, 2, 3, 1, 8]]))
    assert read(five, event_columns="x,y,t,p,id").tolist() == [(1, 2, 1, 3)]


def test_records_contradict_an_order(tmp_path):
    path = write_array(tmp_path, EVENTS)
    assert np.array_equal(read(path, event_columns="x,y,p,t"), EVENTS)
    with pytest.raises(
        ValueError, match="a.npy: data.event_columns: got 't,x,y,p', but the columns have names, .*x,y,p"
    ):
        read(path, event_columns="t,x,y,p")


def test_zero_events(tmp_path):
    for array in (np.zeros(0, EventCD), np.zeros((0, 4))):
        with open_events(write_array(tmp_path, array), HEIGHT, WIDTH) as reader:
            assert reader.first_t is None and reader.last_t is None and reader.read().size == 0


def test_the_sensor_must_be_told(tmp_path):
    with pytest.raises(ValueError, match="a.npy: .*give height and width .*--sensor_height N --sensor_width N"):
        open_events(write_array(tmp_path, EVENTS))
    assert np.array_equal(read(write_array(tmp_path, EVENTS), width=300), EVENTS[:3])


def test_another_file(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="a.npy: not a readable NPY file; it looks like a PNG image; readable: "):
        read(tmp_path / "a.npy", event_format="NPY")
