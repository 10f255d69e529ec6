import numpy as np
import pytest

from detector.events import EventCD, open_events
from detector.events.reader import CHUNK

HEIGHT, WIDTH = 240, 320
EVENTS = np.array([(96, 133, 0, 3811), (5, 6, 1, 3811), (7, 200, 0, 3900), (300, 9, 1, 70_000)], EventCD)


def read(path, **sizes):
    with open_events(path, **{"height": HEIGHT, "width": WIDTH, **sizes}) as reader:
        return reader.read()


def write_text(tmp_path, text):
    (tmp_path / "a.dat").write_text(text)
    return tmp_path / "a.dat"


def write_array(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    return tmp_path / "a.npy"


def columns(order, scale=1):
    return np.stack([EVENTS[name] / scale if name == "t" else EVENTS[name] for name in order], axis=1)


@pytest.mark.parametrize(
    "text",
    [
        "0.003811000 96 133 0\n0.003811000 5 6 1\n0.003900000 7 200 0\n0.070000000 300 9 1\n",
        "3811 96 133 0\n3811 5 6 1\n3900 7 200 0\n70000 300 9 1\n",
        "96,133,0,3811\n5,6,1,3811\n7,200,0,3900\n300,9,1,70000",
        "96, 133, -1, 3811\r\n5, 6, 1, 3811\r\n\r\n# a comment\r\n7, 200, -1, 3900\r\n300, 9, 1, 70000\r\n",
        "x,y,p,t\n96,133,0,3811\n5,6,1,3811\n7,200,0,3900\n300,9,1,70000\n",
        "# t x y p\n3811 96 133 0\n3811 5 6 1\n3900 7 200 0\n70000 300 9 1\n",
        "\ufeffID;Timestamp;Polarity;Y;X\n1;3811;0;133;96\n2;3811;1;6;5\n3;3900;0;200;7\n4;70000;1;9;300\n",
        "y\tx\tpol\tts\n133\t96\t0\t0.003811\n6\t5\t1\t0.003811\n200\t7\t0\t0.0039\n9\t300\t1\t0.07\n",
    ],
)
def test_text_in_all_forms(tmp_path, text):
    assert np.array_equal(read(write_text(tmp_path, text)), EVENTS)


def test_whole_seconds_have_a_decimal_point(tmp_path):
    assert read(write_text(tmp_path, "1.0 96 133 0\n2.0 5 6 1\n"))["t"].tolist() == [1_000_000, 2_000_000]
    assert read(write_text(tmp_path, "1.0 96.0 133.0 0.0\n2.0 5.0 6.0 1.0\n"))["t"].tolist() == [1, 2]
    assert read(write_text(tmp_path, "0 96 133 0\n0.5 5 6 1\n"))["t"].tolist() == [0, 500_000]


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


def test_windows_over_several_blocks(tmp_path):
    rng = np.random.default_rng(0)
    events = np.zeros(2 * CHUNK + 5, EventCD)
    events["t"] = np.sort(rng.integers(0, 10**6, events.size))
    events["x"], events["p"] = rng.integers(0, WIDTH, events.size), rng.integers(0, 2, events.size)
    with open_events(write_array(tmp_path, events), HEIGHT, WIDTH) as reader:
        assert (reader.first_t, reader.last_t) == (events["t"][0], events["t"][-1])
        assert np.array_equal(reader.read(), events)
        for t0, t1 in [(0, 10), (400_000, 600_000), (999_000, 10**9), (500, 400)]:
            assert np.array_equal(reader.read(t0, t1), events[(events["t"] >= t0) & (events["t"] < t1)])
        assert np.array_equal(np.concatenate(list(reader.batches(50_000))), events)
        assert reader.triggers().size == 0


def test_zero_events(tmp_path):
    paths = [write_array(tmp_path, np.zeros(0, EventCD)), write_text(tmp_path, "t,x,y,p\n")]
    np.save(tmp_path / "b.npy", np.zeros((0, 4)))
    for path in [*paths, tmp_path / "b.npy"]:
        with open_events(path, HEIGHT, WIDTH) as reader:
            assert reader.first_t is None and reader.last_t is None and reader.read().size == 0


def test_the_sensor_must_be_told(tmp_path):
    with pytest.raises(ValueError, match="a.npy: .*give height and width"):
        open_events(write_array(tmp_path, EVENTS))
    assert np.array_equal(read(write_array(tmp_path, EVENTS), width=300), EVENTS[:3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5 0 1 1\n6 1 1 0\n", "both of the last two columns could be the polarity"),
        ("5 7 9 8\n", "neither of the last two columns"),
        ("1 2 3 4 5\n", "5 columns without names, allowed: 4"),
        ("x,y,z,t\n1,2,3,4\n", "no events: found x, y, z, t; required"),
        ("x,y,p,t\n1,2,3\n", "not a readable table"),
        ("5 9 9 1\n5 9 9\n5 9 9 1\n", "not a readable table: .*row 2"),
        ("5 9 9 1\n5 9 nine 1\n", "not a readable table: .*nine"),
        ("5 9 9 1\n5 9.5 9 1\n", "x is not whole, allowed: whole numbers"),
        ("5 9 9 1\nnan 9 9 1\n", "t is nan, allowed: finite times"),
        ("5 9 9 1\n5 nan 9 1\n", "x is not whole"),
        ("x y p t\n9 9 3 5\n", "p up to 3.0, allowed: 0 or -1"),
    ],
)
def test_broken_text(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"a.dat: .*{message}") as caught:
        read(write_text(tmp_path, text))
    assert "\n" not in str(caught.value)


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


def test_closed(tmp_path):
    for path in (write_array(tmp_path, EVENTS), write_text(tmp_path, "5 9 9 1\n")):
        with open_events(path, HEIGHT, WIDTH) as reader:
            kept = reader.read()
        with pytest.raises(ValueError, match="the reader is closed"):
            reader.read()
        assert kept.size
