import numpy as np
import pytest

from detector.data.builder.image_times import image_times_note
from detector.events.types import BBOX_dtype
from detector.labels import FoundLabels, LabelTiming


def note(tmp_path, fps, numbers=(1, 300), events=(0, 29_950_000), offset=0):
    """Labels of images `numbers`, counted from 1, of a recording whose first event is at `events[0]`."""
    path = tmp_path / "x_gt.txt"
    path.write_text("".join(f"{number},1,2,3,4,5,1,1,1\n" for number in numbers))
    start = round(int(events[0] * fps / 1e6) * 1e6 / fps)
    labels = np.zeros(len(numbers), BBOX_dtype)
    labels["t"] = [start + round((number - 1) * 1e6 / fps) + offset for number in numbers]
    return image_times_note(labels, FoundLabels(path, "mot"), LabelTiming(fps=fps, offset=offset), events)


def test_images_that_end_long_before_the_recording(tmp_path):
    expected = (
        "300 images at 25 per second cover 12.0 s of 29.9 s; if the labels cover the whole recording, the frame rate "
        "is about 10: give --label_fps",
    )
    assert note(tmp_path, 25) == expected
    assert note(tmp_path, 25, events=(7_130_000, 37_080_000)) == expected
    assert note(tmp_path, 25, offset=-500_000) == expected


def test_images_that_end_long_after_the_recording(tmp_path):
    assert note(tmp_path, 9)[0].startswith("300 images at 9 per second cover 33.3 s of 29.9 s")


@pytest.mark.parametrize("fps", [10, 11, 9.6])
def test_images_that_fit_the_recording(tmp_path, fps):
    assert note(tmp_path, fps) == ()


@pytest.mark.parametrize("fps", [29.97, 30, 60, 1 / 3])
def test_rounded_times_do_not_change_the_number_of_images(tmp_path, fps):
    for first_t in (0, 1, 33_367, 5_000_001):
        found = note(tmp_path, fps, (1, 5, 6), (first_t, first_t + 10**9))
        assert found[0].startswith("6 images at "), (first_t, found)


def test_labels_with_times_have_no_note(tmp_path):
    labels = np.zeros(1, BBOX_dtype)
    labels["t"] = 1000
    np.save(tmp_path / "x_bbox.npy", labels)
    found = FoundLabels(tmp_path / "x_bbox.npy", "npy")
    assert image_times_note(labels, found, LabelTiming(fps=25), (0, 10**7)) == ()
    assert image_times_note(labels, found, LabelTiming(), (0, 10**7)) == ()
