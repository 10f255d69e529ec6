import h5py
import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data.sequence_file import SequenceFile
from detector.evaluation.analysis.event_rate import event_rates
from detector.events.types import BBOX_dtype
from detector.preprocess.representation import representation_of


def write(tmp_path, data, divisor=5.0):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = data
    return SequenceFile(path, path, *data.shape, divisor, 1_000, 50_000, 1.0, str(data.dtype))


def of(preprocess):
    return representation_of(DataConfig(preprocess=preprocess))


def boxes(*rows):
    """(t, x, y, w, h) rows."""
    return np.array([(*row, 0, 0, 1.0) for row in rows], BBOX_dtype)


def test_counts_of_the_frame_that_ends_at_or_after_a_box(tmp_path):
    data = np.zeros((3, 2, 8, 10), np.uint8)
    data[1, 0, 2:4, 3:5] = 3
    data[1, 1, 2, 3] = 2
    file = write(tmp_path, data)
    rows = boxes((101_000, 3, 2, 2, 2), (51_001, 3, 2, 2, 2), (51_000, 3, 2, 2, 2), (101_000, 0, 0, 10, 8))
    # 4 pixels of 3 events and 2 more, in 4 and in 80 pixels and 50 ms.
    np.testing.assert_allclose(event_rates(file, rows, of("histo")), [14 / 4 * 20, 14 / 4 * 20, 0, 14 / 80 * 20])


def test_pixels_that_a_box_touches_count_and_the_outside_does_not(tmp_path):
    data = np.ones((1, 1, 4, 4), np.int8) * -1
    file = write(tmp_path, data)
    rows = boxes((51_000, 0.5, 0.5, 1, 1), (51_000, -2, -2, 4, 4), (51_000, 9, 9, 2, 2), (200_000, 0, 0, 2, 2))
    np.testing.assert_allclose(event_rates(file, rows, of("diff")), [20, 20, np.nan, np.nan])


@pytest.mark.parametrize(("preprocess", "rate"), [("histo", 2 * 20), ("timesurface", 1 * 20)])
def test_floats_are_scaled_and_what_is_no_count_is_activity(tmp_path, preprocess, rate):
    file = write(tmp_path, np.full((1, 2, 4, 4), 0.2, np.float32), divisor=1.0)
    np.testing.assert_allclose(event_rates(file, boxes((51_000, 0, 0, 4, 4)), of(preprocess)), [rate], rtol=1e-6)
