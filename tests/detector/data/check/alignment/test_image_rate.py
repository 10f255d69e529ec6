import pytest

from detector.data.check.alignment.image_rate import interval_text, nearest_rate, span_text


@pytest.mark.parametrize(
    ("rate", "expected"), [(10.2, 10), (24.4, 24), (24.6, 25), (29.97, 30), (27, None), (10.4, None)]
)
def test_the_nearest_usual_rate(rate, expected):
    assert nearest_rate(rate) == expected


@pytest.mark.parametrize(
    "camera", [1, 2, 4, 5, 8, 10, 12, 12.5, 15, 16, 20, 24, 25, 30, 40, 48, 50, 60, 75, 90, 100, 120]
)
def test_rates_of_cameras_are_usual(camera):
    assert nearest_rate(camera * 1.002) == camera


def test_images_that_cover_another_time_than_the_recording():
    expected = "300 images at 25 per second cover 12.0 s of a recording of 30.0 s"
    assert span_text(300, 0, 25, 30_000_000) == expected
    assert span_text(300, 12, 8, 30_400_000) == "300 images at 8 per second cover 37.5 s of a recording of 30.4 s"


@pytest.mark.parametrize(
    ("num_images", "first", "fps", "seconds"),
    [
        (300, 0, 10, 30),
        (300, 0, 10.4, 30),  # 4 % are no other rate
        (300, 0, 25, 44),  # 6.8 per second are not usual: labels of the first 12 s
        (300, 16, 25, 30),  # labels begin later
        (19, 0, 25, 1.9),
        (300, 0, 25, 0),
    ],
)
def test_images_without_a_doubt(num_images, first, fps, seconds):
    assert span_text(num_images, first, fps, round(seconds * 1e6)) == ""


def test_offsets_as_numbers_of_images():
    one = "about 1 image interval (100 ms): possibly --label_first_image is wrong by 1"
    assert interval_text(127_000, 6_000, 10) == one
    assert interval_text(-73_000, 6_000, 10) == one
    assert interval_text(-527_000, 6_000, 10) == "about 5 image intervals (100 ms each)"
    assert interval_text(130_000, 6_000, 25) == "about 3 image intervals (40 ms each)"


@pytest.mark.parametrize(
    ("offset", "error", "fps"),
    [(27_000, 6_000, 10), (145_000, 6_000, 10), (127_000, 45_000, 10), (1_100_000, 6_000, 10)],
)
def test_offsets_that_are_no_number_of_images(offset, error, fps):
    """Too small, between two numbers, not exact, and too many images."""
    assert interval_text(offset, error, fps) == ""
