import numpy as np
import pytest

from detector.events import EventCD
from detector.preprocess.binning import Binned, check_output, into_bins


def columns_of(x=(3, 1, 2), y=(6, 4, 5), p=(1, 0, 1), t=(0, 7, 9), types=(np.uint16, np.uint16, np.int8, np.int64)):
    return tuple(np.array(values, dtype) for values, dtype in zip((x, y, p, t), types, strict=True))


@pytest.mark.parametrize(
    ("num_bins", "total", "edges"),
    [
        (4, 20, [0, 5, 10, 15, 20]),
        (3, 10, [0, 4, 7, 10]),  # 10 / 3 = 3.3, 20 / 3 = 6.7: the first whole microseconds that are not before
        (1, 50_000, [0, 50_000]),
        (5, 3, [0, 1, 2, 2, 3, 3]),
    ],
)
def test_edges_are_the_first_whole_microseconds_of_the_bins(num_bins, total, edges):
    assert into_bins(np.zeros(0, EventCD), num_bins, total).edges.tolist() == edges


def test_a_bin_contains_its_first_and_not_its_last_edge():
    binned = into_bins(columns_of(x=range(6), y=[0] * 6, p=[0] * 6, t=[-1, 0, 9, 10, 19, 20]), 2, 20)
    assert binned.bounds.tolist() == [1, 3, 5]
    assert [column.tolist() for column in binned.within(1, 3)] == [[1, 2], [0, 0], [0, 0], [0, 9]]


def test_events_are_put_in_order_and_equal_times_keep_theirs():
    binned = into_bins(columns_of(x=(0, 1, 2, 3), y=(4, 5, 6, 7), p=(1, 0, 0, 1), t=(5, 3, 5, 3)), 1, 10)
    assert [column.tolist() for column in binned[:4]] == [[1, 3, 0, 2], [5, 7, 4, 6], [0, 1, 1, 0], [3, 3, 5, 5]]


def test_columns_of_the_right_size_are_not_copied():
    columns = columns_of()
    binned = into_bins(columns, 1, 10)
    assert all(np.shares_memory(one, other) for one, other in zip(binned[:4], columns, strict=True))
    assert [column.dtype.str for column in binned[:4]] == ["<u2", "<u2", "|u1", "<i8"]


def test_structs_and_columns_of_other_types_give_the_same():
    structs = np.array([(3, 6, 1, 0), (1, 4, 0, 7), (2, 5, 1, 9)], EventCD)
    for form in (structs, columns_of(types=(np.int64,) * 4), columns_of(types=(np.uint8, np.uint32, bool, np.uint32))):
        binned = into_bins(form, 2, 10)
        assert [column.tolist() for column in binned[:4]] == [[3, 1, 2], [6, 4, 5], [1, 0, 1], [0, 7, 9]]
        assert [column.dtype.str for column in binned[:4]] == ["<u2", "<u2", "|u1", "<i8"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"types": (float, np.uint16, np.int8, np.int64)}, "^xypt: dtype of x: got 'float64', allowed: whole numbers$"),
        (
            {"types": (np.uint16, np.uint16, np.int8, float)},
            "^xypt: dtype of t: got 'float64', allowed: whole numbers$",
        ),
        ({"x": (3, 65536, 1), "types": (np.int64,) * 4}, "^xypt: x runs from 1 to 65536, allowed: 0 to 65535$"),
        ({"y": (3, -2, 1), "types": (np.int64,) * 4}, "^xypt: y runs from -2 to 3, allowed: 0 to 65535$"),
        ({"p": (3, 0, 1), "types": (np.int64,) * 4}, "^xypt: p runs from 0 to 3, allowed: 0 to 1$"),
    ],
)
def test_columns_that_are_no_events_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        into_bins(columns_of(**changes), 1, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": (8, 1, 2)}, "^xypt: x runs from 1 to 8, allowed: 0 to 7 for this output_array$"),
        ({"y": (6, 12, 5)}, "^xypt: y runs from 5 to 12, allowed: 0 to 11 for"),
        ({"p": (1, -1, 1)}, "^xypt: p runs from -1 to 1, allowed: 0 to 1 for"),
    ],
)
def test_an_event_outside_the_output_is_named_by_its_column(changes, message):
    binned = into_bins(columns_of(**changes), 1, 10)
    binned.check(True, (1, 2, 3, 2), 2)
    with pytest.raises(ValueError, match=message):
        binned.check(False, (1, 2, 3, 2), 2)  # 3 rows and 2 columns of 4 x 4 sensor pixels


def test_events_outside_the_bins_are_not_looked_at():
    binned = into_bins(columns_of(x=(99, 1, 2), t=(-5, 7, 9)), 1, 10)
    binned.check(False, (1, 2, 12, 8), 0)


def test_binned_names_its_columns():
    assert Binned._fields == ("x", "y", "p", "t", "edges", "bounds")


def checked(shape=(2, 3, 4, 5), dtype=np.float32, channels=3, total=10, shift=0, bound=5.0, **options):
    check_output(np.zeros(shape, dtype), channels, total, shift, bound, **options)


def test_arguments_that_fit():
    checked()
    checked(dtype=np.float16, bound=65535, shift=15, total=1)
    checked(dtype=np.uint8, bound=2.5)
    checked(dtype=np.uint8, bound=255.0, counts=True)
    checked(dtype=np.int8, bound=127, counts=True, signed=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 2}, r"^output_array: shape: got \(2, 3, 4, 5\), allowed: \(T, 2, H, W\)$"),
        ({"shape": (0, 3, 4, 5)}, "^output_array: shape"),
        ({"dtype": np.float64}, "^output_array: dtype: got 'float64', allowed: one of uint8, float16, float32$"),
        ({"dtype": np.int8}, "^output_array: dtype: got 'int8', allowed: one of uint8,"),
        ({"dtype": np.uint8, "signed": True}, "^output_array: dtype: got 'uint8', allowed: one of int8,"),
        ({"total": 0}, "^total_tbins_delta_t: got 0, allowed: at least 1 microsecond$"),
        ({"shift": 16}, "^downsampling_factor: got 16, allowed: 0 to 15$"),
        ({"bound": 65536}, "^max_incr_per_pixel: got 65536, allowed: above 0, at most 65535$"),
        ({"dtype": np.uint8, "bound": 2.5, "counts": True}, "allowed: whole numbers from 1 to 255 in uint8$"),
        ({"dtype": np.int8, "bound": 128, "counts": True, "signed": True}, "whole numbers from 1 to 127 in int8$"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        checked(**arguments)
