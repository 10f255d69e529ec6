from pathlib import Path

import numpy as np
import pytest

from detector.events import ArrayReader, Faults
from detector.events.reader import CHUNK

X, Y, P, T = [3, 19, 4, 5], [9, 2, 7, 0], [1, 0, 1, 0], [10, 20, 30, 30]


def reader_of(x=X, y=Y, p=P, t=T, height=10, width=20, **options):
    return ArrayReader(Path("a"), [np.array(column) for column in (x, y, p, t)], height, width, **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32, np.float64])
def test_columns_of_any_number_type_are_read(dtype):
    columns = [np.array(column, dtype) for column in (X, Y, P, T)]
    with ArrayReader(Path("a"), columns, 10, 20) as reader:
        assert reader.read().tolist() == [(3, 9, 1, 10), (19, 2, 0, 20), (4, 7, 1, 30), (5, 0, 0, 30)]
        assert (reader.height, reader.width, reader.first_t, reader.last_t) == (10, 20, 10, 30)
        assert reader.read(11, 30).tolist() == [(19, 2, 0, 20)]


def test_off_events_are_0_minus_1_or_false():
    assert reader_of(p=[1, -1, 1, -1]).read()["p"].tolist() == [1, 0, 1, 0]
    assert reader_of(p=[True, False, True, False]).read()["p"].tolist() == [1, 0, 1, 0]


def test_times_with_a_fraction_are_seconds():
    assert reader_of(t=[0.5, 1.0, 1.0000004, 2.25]).read()["t"].tolist() == [500_000, 1_000_000, 1_000_000, 2_250_000]
    assert reader_of(t=[0.0, 1.0, 2.0, 3.0]).read()["t"].tolist() == [0, 1, 2, 3]
    assert reader_of(t=[0.0, 1.0, 2.0, 3.0], seconds=True).last_t == 3_000_000
    assert reader_of(t=[0.25, 1.75, 2.0, 3.0], seconds=False).read()["t"].tolist() == [0, 2, 2, 3]


def test_the_first_65536_times_tell_the_unit():
    t = np.arange(CHUNK + 1.0)
    t[-1] += 0.25
    zeros = np.zeros(t.size, np.uint8)
    assert ArrayReader(Path("a"), (zeros, zeros, zeros, t), 1, 1).last_t == CHUNK
    t[5] += 0.25
    assert ArrayReader(Path("a"), (zeros, zeros, zeros, t), 1, 1).first_t == 0
    assert ArrayReader(Path("a"), (zeros, zeros, zeros, t), 1, 1).read(5_000_001, 6_000_000)["t"].tolist() == [
        5_250_000
    ]


def test_events_outside_the_sensor_are_faulty():
    with reader_of(x=[3, 20, 4, 70_000], y=[-1, 2, 7, 0]) as reader:
        assert reader.read().tolist() == [(4, 7, 1, 30)]
        assert reader.faults == Faults(outside=3)


def test_an_event_that_the_file_cuts_off_is_faulty():
    assert reader_of(truncated=1).faults == Faults(truncated=1)


def test_the_arrays_of_the_caller_stay_as_they_are():
    columns = [np.array(column, np.float64) for column in (X, Y, [1, -1, 1, -1], T)]
    before = [column.copy() for column in columns]
    ArrayReader(Path("a"), columns, 10, 20).read()
    assert all(np.array_equal(*pair) for pair in zip(columns, before, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": [1.5, 2, 3, 4]}, "x is not whole, allowed: whole numbers"),
        ({"y": ["1", "2", "3", "4"]}, "y is <U1, allowed: whole numbers"),
        ({"p": [0, 1, 2, 1]}, r"p up to 2, allowed: 0 or -1 \(OFF\) and 1 \(ON\)"),
        ({"p": [0, -2, 1, 1]}, "p down to -2, allowed"),
        ({"t": [0.5, 1.0, np.nan, 2.0]}, "t is nan, allowed: finite times"),
        ({"t": [0.5, 1.0, 2.0, np.inf]}, "t is inf, allowed: finite times"),
    ],
)
def test_values_that_are_no_events_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"^a: {message}"):
        reader_of(**changes).read()


@pytest.mark.parametrize(
    "columns",
    [[np.zeros(3)] * 3 + [np.zeros(2)], [np.zeros(3)] * 3, [np.zeros((3, 1))] * 4, [np.zeros(3)] * 5],
)
def test_columns_have_one_shape(columns):
    with pytest.raises(ValueError, match=r"^a: columns have shapes .*, allowed: x, y, p, t of one shape \(N,\)"):
        ArrayReader(Path("a"), columns, 10, 20)


def test_the_sensor_size_must_be_given():
    with pytest.raises(ValueError, match="^a: the header contains no sensor size"):
        reader_of(width=None)


def test_a_closed_reader_says_so():
    reader = reader_of()
    events = reader.read()
    reader.close()
    assert events["t"].tolist() == T
    with pytest.raises(ValueError, match="^a: the reader is closed"):
        reader.read()
