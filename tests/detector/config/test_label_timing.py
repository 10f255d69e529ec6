import pytest

from detector.config.label_timing import LabelTiming


def test_by_default_everything_is_found_from_the_files():
    assert LabelTiming() == LabelTiming(time_unit=None, offset=0, fps=None, times=None, first_image=None)


@pytest.mark.parametrize("unit", [None, "us", "ms", "s", "ns"])
def test_units_of_times(unit):
    assert LabelTiming(unit).time_unit == unit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_unit": "min"}, "^label_time_unit: got 'min', allowed: us, ms, s, ns$"),
        ({"fps": 0}, "^label_fps: got 0, allowed: a number above 0$"),
        ({"fps": -30.0}, "^label_fps: got -30.0, allowed"),
        ({"fps": float("inf")}, "^label_fps: got inf, allowed"),
        ({"fps": float("nan")}, "^label_fps: got nan, allowed"),
        (
            {"fps": 30, "times": "a.txt"},
            "^label_times: got 'a.txt', allowed: only one of --label_fps and --label_times$",
        ),
    ],
)
def test_what_determines_no_times_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelTiming(**arguments)


def test_a_frame_rate_or_a_file_of_times_may_come_with_a_first_image_and_an_offset():
    assert LabelTiming(fps=0.5, first_image=3, offset=-7).fps == 0.5
    assert LabelTiming(times="a.txt", first_image=3, offset=-7).times == "a.txt"
