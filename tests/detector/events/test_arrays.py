import numpy as np

from detector.events.arrays import DTYPES, ColumnBuffer, join, slice_columns


def columns(*rows):
    return tuple(np.array(values, dtype) for values, dtype in zip(zip(*rows, strict=True), DTYPES, strict=True))


def test_a_slice_is_a_view_of_the_same_events_of_all_columns():
    events = columns((1, 5, 0, 10), (2, 6, 1, 20), (3, 7, 0, 30))
    part = slice_columns(events, 1, 3)
    assert [column.tolist() for column in part] == [[2, 3], [6, 7], [1, 0], [20, 30]]
    assert all(np.shares_memory(one, other) for one, other in zip(part, events, strict=True))


def test_joined_events_are_new_arrays_in_order():
    first, second = columns((1, 5, 0, 10)), columns((2, 6, 1, 20), (3, 7, 0, 30))
    joined = join(first, second)
    assert [column.tolist() for column in joined] == [[1, 2, 3], [5, 6, 7], [0, 1, 0], [10, 20, 30]]
    assert [column.dtype for column in joined] == list(DTYPES)
    assert not np.shares_memory(joined[0], second[0])


def test_a_buffer_keeps_what_it_is_told_to_keep_when_it_grows():
    buffer = ColumnBuffer()
    for column, values in zip(buffer.take(3), ([1, 2, 3], [4, 5, 6], [0, 1, 0], [7, 8, 9]), strict=True):
        column[:] = values
    grown = buffer.take(40, keep=2)
    assert [column[:2].tolist() for column in grown] == [[1, 2], [4, 5], [0, 1], [7, 8]]
    assert [column.size for column in grown] == [40] * 4 and [column.dtype for column in grown] == list(DTYPES)


def test_a_buffer_uses_its_memory_again_and_never_shrinks():
    buffer = ColumnBuffer()
    large = buffer.take(5)
    assert all(np.shares_memory(*pair) for pair in zip(buffer.take(2), large, strict=True))
    assert np.shares_memory(buffer.take(5)[3], large[3])
