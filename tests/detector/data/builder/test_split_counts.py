import numpy as np

from detector.data.builder.split_counts import SplitCounts, completely_outside, count_split, split_lines
from detector.events.frames import Frames
from detector.events.types import BBOX_dtype

NAMES = {0: "car", 9: "empty"}


def boxes(*rows):
    return np.array([(t, x, y, w, h, c, 0, 1) for t, x, y, w, h, c in rows], BBOX_dtype)


def test_boxes_completely_outside():
    labels = boxes(
        (1, 99, 10, 5, 5, 0),  # its first column is on the sensor of 100 x 80
        (1, 100, 10, 5, 5, 0),
        (1, 10, 79, 5, 5, 0),
        (1, 10, 80, 5, 5, 0),
        (1, -4, 10, 5, 5, 0),
        (1, -5, 10, 5, 5, 0),
        (1, 10, -5, 5, 5, 0),
        (1, 10, -4, 5, 5, 0),
        (1, 200, 10, 0, 5, 0),  # no area
    )
    expected = [False, True, False, True, False, True, True, False, False]
    assert completely_outside(labels, (80, 100)).tolist() == expected
    assert completely_outside({name: labels[name] for name in "xywh"}, (80, 100)).tolist() == expected
    assert not completely_outside(labels, None).any()


def test_usable_boxes_of_a_file_are_counted():
    labels = boxes(
        (100, 10, 10, 5, 5, 0),  # at the start: in no frame
        (150, 10, 10, 5, 5, 0),
        (150, 20, 10, 5, 5, 0),
        (160, 10, 10, 5, 5, 7),  # no such class
        (170, 10, 10, 5, 5, 9),  # an image without objects
        (180, 300, 10, 5, 5, 0),  # outside the sensor
        (190, 10, 10, 0, 5, 0),
        (301, 10, 10, 5, 5, 0),  # after the end
    )
    found = count_split("val", Frames(100, 50, 4), labels, NAMES, (80, 100))
    assert found == SplitCounts("val", 4, 5, 2, (100, 300), (100, 301))
    assert count_split("val", Frames(100, 50, 4), labels[:0], NAMES, (80, 100)).label_span is None


def part(split, boxes, times=3, labels=(1_000_000, 2_500_000)):
    return SplitCounts(split, 1_200, times, boxes, (4_000_000, 6_000_000), labels)


def test_one_line_per_split_in_their_usual_order():
    lines = split_lines([part("test", 1, 1), part("train", 1_500), part("train", 20)])
    assert lines == [
        "train: 2 tensor files, 2,400 frames, 6 labelled times, 1,520 boxes",
        "test: 1 tensor file, 1,200 frames, 1 labelled time, 1 box",
    ]
    assert split_lines([]) == []


def test_warnings_name_the_likely_cause():
    assert split_lines([part("train", 9), part("val", 0), part("val", 2)])[2:] == []
    start = "warning: val has no box of a known class on the sensor"

    def warning(*files):
        lines = split_lines([part("train", 9), *files])
        assert len(lines) == 3
        return lines[2]

    found = warning(part("val", 0, 0))
    assert found.startswith(
        f"{start}: the labels are at 1.000 to 2.500 s, the frames at 4.000 to 6.000 s; likely causes"
    )
    assert all(flag in found for flag in ("--val", "--label_fps", "--label_time_unit", "--label_offset"))
    found = warning(part("val", 0, 0, None), part("val", 0, 0))
    assert found.startswith(f"{start}: the labels of the first file are at 1.000 to 2.500 s")
    assert warning(part("val", 0, 0, None)) == f"{start}: its label files contain no labels"
    assert warning(part("val", 0, 2)).startswith(
        f"{start} at its labelled times: check the label map and the positions"
    )
