import numpy as np
import pytest

from detector.events.frames import Frames


def test_a_time_belongs_to_the_frame_with_start_before_it_and_end_at_or_after_it():
    times = np.array([999_999, 1_000_000, 1_000_001, 1_050_000, 1_050_001, 1_150_000, 1_150_001])
    assert Frames(1_000_000, 50_000, 3).find(times).tolist() == [-1, -1, 0, 0, 1, 2, -1]


def test_unsigned_times_before_the_start_do_not_wrap():
    assert Frames(100, 10, 5).find(np.array([50, 105], np.uint64)).tolist() == [-1, 0]


def test_ends():
    frames = Frames(2**33, 10_000, 4)
    assert [frames.end(k) for k in range(2)] == [2**33 + 10_000, 2**33 + 20_000]
    assert frames.find(np.array([frames.end(k) for k in range(4)])).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "value", [(0, 50_000), (0, 0, 3), (0, 50_000, -1), (0.5, 50_000, 3), {"first_t": 0}, {"delta_t": 1}, 7, None]
)
def test_what_is_no_description_of_frames(value):
    with pytest.raises(ValueError, match="frames: got .*, allowed: whole numbers first_t, delta_t"):
        Frames.of(value)


def test_descriptions_of_frames():
    assert (
        Frames.of(Frames(1, 2, 3)) == Frames.of([1, 2, 3]) == Frames.of({"first_t": 1, "delta_t": 2, "num_frames": 3})
    )
