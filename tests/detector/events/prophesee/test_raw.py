"""What EVT2, EVT2.1 and EVT3 have in common, with words of EVT2: four bits of type, then 28 bits."""

import numpy as np
import pytest
from event_samples import EVT2_HEADER, between, events_at

from detector.events import open_events, write_evt2
from detector.events.prophesee import fixed_size
from detector.events.prophesee.raw import EXT_TRIGGER, FIRST_LOOK, TIME_HIGH


@pytest.fixture(autouse=True)
def _searched(monkeypatch):
    """Files of any size are searched, and not read whole first."""
    monkeypatch.setattr(fixed_size, "SCANNED", -1)


def high(value):
    return 0x8 << 28 | value


def cd(low, x, y=1, p=0):
    return p << 28 | low << 22 | x << 11 | y


def edge(low, number, p):
    return 0xA << 28 | low << 22 | number << 8 | p


OTHER = 0xE << 28  # a word of neither events nor times


def open_words(tmp_path, *words):
    (tmp_path / "a.raw").write_bytes(EVT2_HEADER + np.array(words, "<u4").tobytes())
    return open_events(tmp_path / "a.raw")


def test_words_before_the_first_time_high_have_no_time_and_are_dropped(tmp_path):
    with open_words(tmp_path, cd(1, 5), OTHER, cd(2, 6), high(3), cd(4, 7), cd(9, 8)) as reader:
        assert (reader.first_t, reader.last_t) == (3 * 64 + 4, 3 * 64 + 9)
        assert reader.read()["x"].tolist() == [7, 8]


def test_the_last_time_is_that_of_the_last_word_with_an_event(tmp_path):
    with open_words(tmp_path, high(3), cd(4, 7), high(5), high(6), OTHER, high(9)) as reader:
        assert reader.last_t == 3 * 64 + 4


def test_the_first_time_is_that_of_the_first_word_with_an_event(tmp_path):
    with open_words(tmp_path, high(3), OTHER, high(7), edge(3, 1, 1), cd(5, 7), cd(6, 7)) as reader:
        assert reader.first_t == 7 * 64 + 5


def test_edges_of_triggers_have_the_time_and_the_polarity_of_their_words(tmp_path):
    words = [edge(1, 9, 1), high(2), edge(3, 5, 1), cd(4, 1), high(3), edge(0, 31, 0), edge(63, 5, 0)]
    with open_words(tmp_path, *words) as reader:
        found = [(found["t"], found["id"], found["p"]) for found in reader.triggers()]
        assert found == [(2 * 64 + 3, 5, 1), (3 * 64, 31, 0), (3 * 64 + 63, 5, 0)]
        assert reader.read()["t"].tolist() == [2 * 64 + 4]


@pytest.mark.parametrize("gap", [0, 1, FIRST_LOOK - 1, FIRST_LOOK, 5 * FIRST_LOOK + 3])
def test_words_of_a_type_are_found_over_any_distance(tmp_path, gap):
    words = [high(1), edge(0, 0, 0), *[OTHER] * gap, high(2), edge(0, 0, 1), *[OTHER] * gap]
    with open_words(tmp_path, *words) as reader:
        places = [index for index, word in enumerate(words) if word >> 28 == 0xA]
        assert reader._first(EXT_TRIGGER, 0) == places[0]
        assert reader._first(EXT_TRIGGER, places[0] + 1) == places[1]
        assert reader._first(EXT_TRIGGER, places[1] + 1) == len(words)
        assert reader._first(EXT_TRIGGER, places[0] + 1, stop=places[1]) == places[1]
        assert reader._last(EXT_TRIGGER, len(words)) == places[1]
        assert reader._last(EXT_TRIGGER, places[1]) == places[0]
        assert reader._last(EXT_TRIGGER, places[0]) == -1
        assert reader._first(TIME_HIGH | EXT_TRIGGER, 2) == 2 + gap


def test_every_word_has_the_time_of_the_next_time_high(tmp_path):
    words = [high(4), cd(1, 1), cd(2, 2), high(6), high(7), OTHER, high(11)]
    with open_words(tmp_path, *words) as reader:
        for index in (5, 0, 2, 1, 6, 3, 4, 1, 5):  # in any order, as searches ask
            following = next(word for word in words[index:] if word >> 28 == 0x8)
            assert reader._high_from(index) == (following & (1 << 28) - 1) * 64


def test_windows_of_a_file_that_is_searched(tmp_path):
    events = events_at(np.sort(np.random.default_rng(3).integers(1000, 9000, 4000)))
    write_evt2(tmp_path / "a.raw", events, 480, 640)
    with open_events(tmp_path / "a.raw") as reader:
        for t0, t1 in [(0, 1001), (1063, 1064), (1064, 1100), (5000, 5100), (8990, 10**9), (1800, 1500)]:
            assert np.array_equal(reader.read(t0, t1), between(events, t0, t1))
        assert np.array_equal(reader.read(t0=8000), events[events["t"] >= 8000])
        assert np.array_equal(reader.read(t1=1500), events[events["t"] < 1500])
