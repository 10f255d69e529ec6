import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.events.frames import Frames
from detector.events.types import BBOX_dtype


def test_a_time_belongs_to_the_frame_with_start_before_it_and_end_at_or_after_it():
    times = np.array([999_999, 1_000_000, 1_000_001, 1_050_000, 1_050_001, 1_150_000, 1_150_001])
    assert Frames(1_000_000, 50_000, 3).find(times).tolist() == [-1, -1, 0, 0, 1, 2, -1]


def test_unsigned_times_before_the_start_do_not_wrap():
    assert Frames(100, 10, 5).find(np.array([50, 105], np.uint64)).tolist() == [-1, 0]


def test_ends():
    frames = Frames(2**33, 10_000, 4)
    assert [frames.end_of(k) for k in range(2)] == [2**33 + 10_000, 2**33 + 20_000]
    assert frames.find(np.array([frames.end_of(k) for k in range(4)])).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "value",
    [
        (0, 50_000),
        (0, 0, 3),
        (0, 50_000, -1),
        (0.5, 50_000, 3),
        {"first_t": 0},
        {"delta_t": 1},
        (float("inf"), 5, 1),
        7,
        None,
    ],
)
def test_what_is_no_description_of_frames(value):
    with pytest.raises(ValueError, match="frames: got .*, allowed: whole numbers first_t, delta_t"):
        Frames.of(value)


def test_descriptions_of_frames():
    assert (
        Frames.of(Frames(1, 2, 3)) == Frames.of([1, 2, 3]) == Frames.of({"first_t": 1, "delta_t": 2, "num_frames": 3})
    )


def boxes_at(times):
    labels = np.zeros(len(times), BBOX_dtype)
    labels["t"] = times
    labels["track_id"] = np.arange(len(times))
    return labels


@pytest.mark.parametrize(
    ("first_t", "last_t", "expected"),
    [
        (1_234_567, 1_249_999, (1_200_000, 1, 1_250_000)),  # the first event in mid-frame
        (50_000, 100_000, (50_000, 2, 150_000)),  # events on borders begin a frame
        (0, 0, (0, 1, 50_000)),
        (2**32 - 1, 2**32 + 50_000, (4_294_950_000, 2, 4_295_050_000)),
        (-1, 1, (-50_000, 2, 50_000)),
    ],
)
def test_frames_of_a_recording(first_t: int, last_t: int, expected: tuple):
    grid = Frames.of_events(first_t, last_t, 50_000)
    assert (grid.first_t, grid.num_frames, grid.end) == expected


@pytest.mark.parametrize("shift", [0, 2**32, 2**40])
def test_times_on_borders_belong_to_the_frame_that_ends_there(shift: int):
    grid = Frames(1_200_000 + shift, 50_000, 2)
    times = np.array([1_199_999, 1_200_000, 1_200_001, 1_250_000, 1_250_001, 1_300_000, 1_300_001]) + shift
    assert grid.inside(times).tolist() == [False, False, True, True, True, True, False]
    assert grid.find(times[2:6]).tolist() == [0, 0, 1, 1]
    assert grid.part(1, 2) == Frames(1_250_000 + shift, 50_000, 1)
    assert grid.part(1, 2).inside(times).tolist() == [False, False, False, False, True, True, False]


def test_60_hz_labels_have_three_times_in_a_frame_of_which_the_last_counts():
    times = [round(k * 1e6 / 60) for k in range(7) for _ in range(2)]  # 0, 16667, 33333, 50000, ..., 100000
    rows, frames = Frames(0, 50_000, 2).last_of_each_frame(boxes_at(times))
    assert rows["t"].tolist() == [50_000, 50_000, 100_000, 100_000]
    assert frames.tolist() == [0, 0, 1, 1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(-200, 400), max_size=30),
    st.integers(-100, 2**33),
    st.integers(1, 40),
    st.integers(0, 12),
)
def test_the_rule_as_it_is_stated(offsets: list[int], start: int, delta_t: int, num_frames: int):
    labels = boxes_at(sorted(start + offset for offset in offsets))
    grid = Frames(start, delta_t, num_frames)
    rows, frames = grid.last_of_each_frame(labels)
    expected = []
    for k in range(num_frames):
        found = [t for t in labels["t"].tolist() if start + k * delta_t < t <= start + (k + 1) * delta_t]
        expected += [(t, k) for t in found if t == max(found)]
    assert list(zip(rows["t"].tolist(), frames.tolist(), strict=True)) == expected
    assert grid.inside(labels["t"]).sum() == sum(start < t <= grid.end for t in labels["t"].tolist())
