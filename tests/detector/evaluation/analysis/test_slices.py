import json

import numpy as np
import pytest

from detector.evaluation.analysis.slices import SLICES, measure_details
from detector.evaluation.collector import Protocol, RecordingBoxes
from detector.events.frames import Frames
from detector.events.types import BBOX_dtype

PROTOCOL = Protocol()


def rows(*table):
    """(t in ms, x, side, track, score) rows of cars."""
    return np.array([(t * 1000, x, 10, side, side, 1, track, score) for t, x, side, track, score in table], BBOX_dtype)


@pytest.fixture
def recording():
    """A slow small car, found, and a fast large one, found in the second of two frames only."""
    labels = rows((50, 10, 20, 0, 1), (50, 100, 80, 1, 1), (100, 10, 20, 0, 1), (100, 120, 80, 1, 1))
    found = rows((50, 10, 20, 0, 0.9), (100, 10, 20, 0, 0.8), (100, 120, 80, 0, 0.7), (100, 40, 15, 0, 0.2))
    return RecordingBoxes("a.h5", Frames(0, 50_000, 2), labels, labels, found)


def measure(*recordings, rates=None):
    return measure_details(recordings, {1: "car"}, (240, 304), PROTOCOL, rates)


def test_slices(recording):
    found = measure(recording)
    assert set(found.slices) == set(SLICES) - {"event_rate"}
    assert found.operating_point.score == pytest.approx(0.7)
    sizes = found.slices["size"]
    assert [(part.start, part.stop, part.boxes) for part in sizes] == [
        (None, 16, 0), (16, 32, 2), (32, 64, 0), (64, 96, 2), (96, None, 0)
    ]  # fmt: skip
    assert (sizes[0].ap, sizes[0].recall) == (None, None)
    assert (sizes[1].ap, sizes[1].recall) == (pytest.approx(1), 1.0)
    # Of two labels one is found, by the only detection of that size: precision 1 up to a recall of 0.5.
    assert (sizes[3].ap, sizes[3].recall) == (pytest.approx(51 / 101), 0.5)
    speeds = found.slices["speed"]
    assert [part.boxes for part in speeds] == [2, 0, 0, 0, 2], "0 and 400 px/s"
    assert speeds[0].ap50 == pytest.approx(1), "the false detection scores lower"
    assert [part.boxes for part in found.slices["track_age"]] == [4, 0, 0, 0]


def test_a_box_at_an_edge_is_in_the_slice_above_it():
    labels = rows(*((50, 100 * number, side, number, 1) for number, side in enumerate((15, 16, 32, 96))))
    found = measure(RecordingBoxes("a.h5", Frames(0, 50_000, 1), labels, labels, labels[1:]))
    sizes = found.slices["size"]
    assert [part.boxes for part in sizes] == [1, 1, 1, 0, 1]
    # A detection at an edge belongs to the same slice as its label.
    assert [part.ap for part in sizes] == [0, pytest.approx(1), pytest.approx(1), None, pytest.approx(1)]


def test_the_age_of_a_stream_counts_from_its_first_frame_in_seconds():
    labels = rows((3_900, 10, 20, 0, 1), (4_000, 10, 20, 0, 1), (5_950, 10, 20, 0, 1))
    found = measure(RecordingBoxes("a.h5", Frames(3_000_000, 50_000, 100), labels, labels, labels[:2]))
    ages = found.slices["stream_age"]  # 0.9, 1.0 and 2.95 s
    assert [part.boxes for part in ages] == [1, 1, 1, 0, 0]
    assert [part.ap for part in ages] == [pytest.approx(1), pytest.approx(1), 0, None, None]


def test_boxes_without_a_known_quantity_are_in_no_slice(recording):
    def rates(_, boxes):
        return np.where(boxes["w"] > 50, 5.0, np.nan)

    parts = measure(recording, rates=rates).slices["event_rate"]
    assert [part.boxes for part in parts] == [0, 0, 2, 0, 0]


def test_details_over_recordings_survive_json(recording):
    other = recording._replace(path="b.h5", detections=recording.detections[:0])
    found = measure(recording, other)
    assert found.reaction.tracks == 4
    assert (found.reaction.found, found.reaction.median_ms) == (0.5, 25.0), "after 0 and 50 ms"
    assert found.confusion.counts == [[3, 5], [0, 0]]
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["operating_point"]["recall"] == pytest.approx(3 / 8)
    assert stored["slices"]["size"][1]["boxes"] == 4
    assert stored["intervals"]["blocks"] == 4 and stored["intervals"]["recordings"] == 2
    assert stored["intervals"]["bounds"]["mean_ap"][1] > stored["intervals"]["bounds"]["mean_ap"][0] == 0.0


def test_nothing_found_at_all(recording):
    found = measure(recording._replace(detections=recording.detections[:0]))
    assert found.operating_point == (None, 0.0, None, 0.0)
    assert (found.calibration.error, found.reaction.found) == (None, 0.0)
    assert found.confusion.counts == [[0, 4], [0, 0]]
    assert found.slices["size"][1].ap == 0
