import numpy as np
import pytest

from detector.events import kernels
from detector.events.arrays import ColumnBuffer


def plain(loop):
    """The loop as Python, which is what runs where there is no compiler."""
    return getattr(loop, "py_func", loop)


@pytest.mark.parametrize(
    ("now", "raw", "slack", "expected"),
    [
        (95, 99, 0, 99),
        (95, 95, 0, 95),
        (125, 3, 0, 131),  # a fall of 122 of 128
        (130, 5, 0, 133),
        (95, 90, 0, 90),  # runs backwards
        (70, 5, 0, 133),
        (69, 5, 0, 5),
        (129, 127, 0, 255),
        (129, 127, 2, 127),  # a fall across the end of the period
    ],
)
def test_advance_by_hand(now, raw, slack, expected):
    assert kernels.advance(now, raw, 128, slack) == plain(kernels.advance)(now, raw, 128, slack) == expected


def test_trailing_zeros():
    for zeros in range(32):
        for bits in (1 << zeros, 0xFFFFFFFF << zeros & 0xFFFFFFFF):
            assert kernels._trailing_zeros(bits) == zeros


def test_words_are_found_by_their_type():
    words = np.array([0x1234, 0x8001, 0x3000, 0x8FFF], np.uint16)
    for find, place in ((kernels.find_first, 1), (kernels.find_last, 3)):
        for loop in (find, plain(find)):
            assert loop(words, 12, 1 << 8) == place
            assert loop(words, 12, 1 << 8 | 1 << 3) == place
            assert loop(words, 12, 1 << 5) == -1
    assert kernels.find_first(words.astype(np.int64) << 48, 60, 1 << 8) == 1


def decode(loop, words, *more):
    columns = ColumnBuffer().take(16 * words.size)
    state = kernels.new_state(1 << 14)
    count = loop(words, state, *columns, 0, 640, 480, *more)
    return count, [column[: max(count, 0)].tolist() for column in columns], state.tolist()


CASES = {
    "decode_dat": (np.array([1 << 14 | 5 << 32 | 6 << 46 | 1 << 60, 1 << 15 | 639 << 32], np.int64), ()),
    "decode_evt2": (np.array([1 << 28 | 3 << 22 | 5 << 11 | 6, 8 << 28 | 300, 639 << 11 | 479], np.uint32), ()),
    "decode_evt21": (np.array([7 << 32 | 1 << 28 | 5 << 11 | 6, 8 << 28 | 300], np.int64), (0,)),
    "decode_evt3": (np.array([0x6003, 0x0006, 0x2805, 0x3800, 0x4803, 0x5081, 0x8005, 0xA001], np.uint16), ()),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_as_plain_python(name):
    words, more = CASES[name]
    loop = getattr(kernels, name)
    compiled = decode(loop, words, *more)
    assert compiled == decode(plain(loop), words, *more)
    assert compiled[0] == {"decode_dat": 2, "decode_evt2": 2, "decode_evt21": 3, "decode_evt3": 6}[name]


WORDS = {  # two events at times 2 and `time`, the second one at (x, y)
    "decode_dat": lambda time, x, y: np.array([2, time | x << 32 | y << 46], np.int64),
    "decode_evt2": lambda time, x, y: np.array([2 << 22, time << 22 | x << 11 | y], np.uint32),
    "decode_evt21": lambda time, x, y: np.array([1 << 32 | 2 << 22, 1 << 32 | time << 22 | x << 11 | y], np.int64),
}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize(
    ("time", "x", "y", "suspect"),
    [(2, 639, 479, 0), (3, 0, 0, 0), (1, 9, 9, 1), (2, 640, 9, 1), (2, 9, 480, 1), (1, 640, 480, 1)],
)
def test_faulty_events_are_suspect(name, time, x, y, suspect):
    loop = getattr(kernels, name)
    more = (0,) if name == "decode_evt21" else ()
    for each in (loop, plain(loop)):
        columns, state = ColumnBuffer().take(40), kernels.new_state(0)
        assert each(WORDS[name](time, x, y), state, *columns, 0, 640, 480, *more) == 2
        assert [column[1] for column in columns] == [x, y, 0, time]
        assert state[kernels.SUSPECT] == suspect


@pytest.mark.parametrize("time", [4, 1 << 31])
def test_dat_that_is_unusual_in_plain_python(time):
    words = np.array([1 << 14, time, 640 << 32 | 1 << 14][: 2 + (time == 4)], np.int64)  # 1 << 31 is in order
    results = [decode(loop, words) for loop in (kernels.decode_dat, plain(kernels.decode_dat))]
    assert results[0] == results[1]
    assert results[0][0] == words.size
    assert results[0][2][kernels.SUSPECT] == (time == 4)


@pytest.mark.parametrize(("row", "suspect"), [(479, 0), (480, 1)])
def test_a_row_outside_the_sensor_is_suspect_wherever_a_part_begins(row, suspect):
    for words in ([0x8001, 0x6003, row, 0x2005], [0x8001, row, 0x6003, 0x2005]):
        for loop in (kernels.decode_evt3, plain(kernels.decode_evt3)):
            for cut in range(4):
                columns, state = ColumnBuffer().take(200), kernels.new_state(0)
                assert loop(np.array(words[:cut], np.uint16), state, *columns, 0, 640, 480) == 0
                assert loop(np.array(words[cut:], np.uint16), state, *columns, 0, 640, 480) == 1
                assert (columns[1][0], state[kernels.SUSPECT]) == (row, suspect)


def test_faults_are_listed_one_after_another():
    x, y, p = np.array([1, 640, 2, 3, 4], np.uint16), np.array([1, 1, 480, 2, 2], np.uint16), np.ones(5, np.int8)
    t = np.array([10, 11, 12, 9, 20], np.int64)
    for loop in (kernels.find_faults, plain(kernels.find_faults)):
        places, times = np.zeros(6, np.int64), np.zeros(6, np.int64)
        facts = np.zeros(kernels.NUM_FACTS, np.int64)
        assert loop(x, y, p, t, 100, facts, 640, 480, 0, True, places, times) == (5, 3)
        assert places[:3].tolist() == [101, 102, 103]
        assert times[:3].tolist() == [kernels.NO_TIME, kernels.NO_TIME, 10]


def test_a_second_part_goes_on_behind_the_first():
    words, _ = CASES["decode_evt3"]
    columns, state = ColumnBuffer().take(200), kernels.new_state(0)
    count = kernels.decode_evt3(words, state, *columns, 0, 640, 480)
    count = kernels.decode_evt3(np.array([0x2007], np.uint16), state, *columns, count, 640, 480)
    assert (count, columns[0][6], columns[1][6], columns[3][6]) == (7, 7, 6, 5 << 12)
