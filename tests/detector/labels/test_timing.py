"""Times of labels: image numbers with a frame rate, a file of times, or the times of the images in a recording."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detector.config.label_timing import LabelTiming
from detector.labels.label_format import LabelFile
from detector.labels.timing import read_image_times, to_times

NUMBERED = LabelFile(np.zeros(0), numbered=True)
PATH = Path("labels")


def recording(first_t=0, frame_times=(), path=PATH):
    return SimpleNamespace(first_t=first_t, frame_times=lambda: np.array(frame_times, np.int64), path=path)


def times(numbers, timing, content=NUMBERED, **facts):
    return to_times(np.array(numbers), content, PATH, timing, recording(**facts))[0].tolist()


def test_image_numbers_and_a_frame_rate():
    # The recording starts at 1,234,567 us. At 10 Hz, the last image that is not later is at 1.2 s.
    assert times([0, 3, 7], LabelTiming(fps=10), first_t=1_234_567) == [1_200_000, 1_500_000, 1_900_000]
    assert times([0, 1, 2], LabelTiming(fps=30)) == [0, 33_333, 66_667]
    assert times([0, 3], LabelTiming(fps=10, offset=-7)) == [-7, 299_993]
    assert times([862], LabelTiming(fps=1000), first_t=862) == [862_000]


@pytest.mark.parametrize(
    ("numbers", "timing", "first_image", "wanted"),
    [
        ([1, 3], LabelTiming(fps=10), None, [0, 200_000]),  # no image has the number 0
        ([1, 3], LabelTiming(fps=10, first_image=0), None, [100_000, 300_000]),
        ([2, 3], LabelTiming(fps=10), None, [200_000, 300_000]),
        ([2, 3], LabelTiming(fps=10), 1, [100_000, 200_000]),  # MOT
        ([5, 7], LabelTiming(fps=10, first_image=5), 1, [0, 200_000]),
    ],
)
def test_number_of_the_first_image(numbers, timing, first_image, wanted):
    assert times(numbers, timing, LabelFile(np.zeros(0), numbered=True, first_image=first_image)) == wanted


def test_times_of_a_file(tmp_path):
    file = tmp_path / "times.txt"
    file.write_text("10\n250\n900\n")
    assert times([2, 0], LabelTiming(times=str(file))) == [900, 10]
    file.write_text("0.5\n0.75\n")
    assert times([1], LabelTiming("s", times=str(file), offset=3)) == [750_003]
    assert times([1, 2], LabelTiming("s", times=str(file))) == [500_000, 750_000]  # two images, so 1 is the first
    with pytest.raises(ValueError, match=r"there is no time of image 2, allowed: images 0 to 1; .*--label_first_image"):
        times([0, 2], LabelTiming("s", times=str(file)))


@pytest.mark.parametrize(
    "place", ["a_labels/timestamps.txt", "a_labels_timestamps.txt", "timestamps.txt", "a_timestamps.txt"]
)
def test_file_of_times_beside_the_labels(tmp_path, place):
    labels = tmp_path / "a_labels"
    labels.mkdir()
    (tmp_path / place).write_text("7\n19\n")
    found, text = to_times(np.array([1]), NUMBERED, labels, LabelTiming(), recording(path=tmp_path / "a_td.dat"))
    assert found.tolist() == [19]
    assert str(tmp_path / place) in text


def test_a_file_without_times(tmp_path):
    (tmp_path / "times.txt").touch()
    assert times([], LabelTiming(times=str(tmp_path / "times.txt"))) == []
    with pytest.raises(ValueError, match=r"times.txt: there is no time, allowed: one time per image"):
        times([0], LabelTiming(times=str(tmp_path / "times.txt")))


def test_times_of_the_images_in_the_recording():
    assert times([2, 0], LabelTiming(), frame_times=[5, 40, 95]) == [95, 5]
    assert times([2], LabelTiming(fps=10), frame_times=[5, 40, 95]) == [200_000]  # a stated rate takes precedence
    with pytest.raises(ValueError, match="there is no time of image 3, allowed: images 0 to 2"):
        times([0, 3], LabelTiming(), frame_times=[5, 40, 95])
    with pytest.raises(ValueError, match="there is no time of image 9, allowed: images 6 to 8;"):
        times([6, 9], LabelTiming(first_image=6), frame_times=[5, 40, 95])
    with pytest.raises(ValueError, match="there is no time of image 5, allowed: images 6 to 8;"):
        times([5, 8], LabelTiming(first_image=6), frame_times=[5, 40, 95])


def test_image_numbers_that_are_times():
    assert times([1_700, 1_900], LabelTiming("ms")) == [1_700_000, 1_900_000]
    with pytest.raises(
        ValueError, match="no times, needed: the time of each image; give --label_fps N .*--label_times"
    ):
        times([0, 1], LabelTiming())


@pytest.mark.parametrize("numbers", [[-1, 2], [1_700_000_000_000_000]])
def test_impossible_image_numbers(numbers):
    with pytest.raises(ValueError, match="allowed: 0 to 1000000000"):
        times(numbers, LabelTiming(fps=10))


def test_unit_of_a_format():
    in_seconds = LabelFile(np.zeros(0), time_unit="s")
    assert times([0.25, 1.5], LabelTiming(), in_seconds) == [250_000, 1_500_000]
    assert times([250, 1500], LabelTiming("ms"), in_seconds) == [250_000, 1_500_000]
    with pytest.raises(ValueError, match="label field t holds fractions"):
        times([0.25], LabelTiming(), LabelFile(np.zeros(0)))


@pytest.mark.parametrize(
    ("text", "unit", "wanted"),
    [
        ("# time\n5\n7\n\n", None, [5, 7]),
        ("timestamp,name\n5,a.png\n9,b.png\n", None, [5, 9]),
        ("0 0.5\n1 0.75\n2 1.5\n", "s", [500_000, 750_000, 1_500_000]),
        ("1;100\n2;190\n", None, [100, 190]),
        ("5 100\n6 190\n", None, [100, 190]),
        ("0 500\n", None, [500]),
        ("1 500\n", None, [500]),
        ("5 9\n7 3\n", None, [5, 7]),  # the second column is not the times
        ("1513567123456789000\n1513567123457789000\n", "ns", [1513567123456789, 1513567123457789]),
        ("\ufeff5\r\n7\r\n", None, [5, 7]),
    ],
)
def test_files_of_image_times(tmp_path, text, unit, wanted):
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    assert read_image_times(tmp_path / "t.txt", unit).tolist() == wanted


@pytest.mark.parametrize("text", ["0 100\n1 133\n3 200\n", "5 9\n", "2 500\n", "0,033\n0,066\n"])
def test_two_columns_that_could_both_be_times(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(
        ValueError, match="two columns of increasing numbers, .* allowed: one time per line, or the numb"
    ):
        read_image_times(tmp_path / "t.txt")


def test_numbers_that_leave_open_where_they_begin():
    def text(numbers, timing, **facts):
        return to_times(np.array(numbers), NUMBERED, PATH, timing, recording(**facts))[1]

    assert "open" not in text([0, 3], LabelTiming(fps=10))
    assert "open" not in text([1, 3], LabelTiming(fps=10, first_image=1))
    assert text([1, 3], LabelTiming(fps=10)).endswith("if not from 1, give --label_first_image 0")
    assert text([1, 2], LabelTiming(), frame_times=[5, 7, 9]).endswith("if not from 0, give --label_first_image 1")
    assert "open" not in text([1, 3], LabelTiming(), frame_times=[5, 7, 9])


def test_the_first_image_and_its_time_are_named():
    timing = LabelTiming(fps=10, first_image=5, offset=3)
    text = to_times(np.array([7]), NUMBERED, PATH, timing, recording(1_234_567))[1]
    assert text == "image 5 is at 1200000 us, 10 images per second"
    text = to_times(np.array([7]), NUMBERED, PATH, timing, None)[1]
    assert text == "image 5 is at 0 us, 10 images per second, counted from 0 because no recording is given"
    text = to_times(np.array([1]), NUMBERED, PATH, LabelTiming(first_image=1), recording(frame_times=[40, 95]))[1]
    assert text == "image 1 is at 40 us, times of the images in the recording"


def test_npy_file_of_image_times(tmp_path):
    np.save(tmp_path / "t.npy", np.array([3, 8]))
    assert read_image_times(tmp_path / "t.npy").tolist() == [3, 8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5\nseven\n", r"not a file of image times \(line 2: 'seven'\), allowed: one time per line"),
        ("5\n4\n", "the times fall from 5 to 4 us, allowed: times that increase"),
        ("0.5\n0.75\n", "image time holds fractions, .*--label_time_unit s"),
        ("5\nnan\n", "NaN or infinity"),
    ],
)
def test_broken_files_of_image_times(tmp_path, text, message):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_image_times(tmp_path / "t.txt")
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such file of image times"):
        read_image_times(tmp_path / "u.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "label_fps: got 0, allowed: a number above 0"),
        ({"fps": float("nan")}, "label_fps: got nan"),
        ({"fps": 10, "times": "t.txt"}, "label_times: got 't.txt', allowed: only one of --label_fps and --label_times"),
        ({"time_unit": "min"}, "label_time_unit: got 'min', allowed: us, ms, s, ns"),
    ],
)
def test_options_that_are_not_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        LabelTiming(**options)
