import re
from dataclasses import replace

import numpy as np
import pytest

from detector.data.builder.label_counts import (
    LabelCounts,
    count_labels,
    layout_cause,
    report_lines,
    size_cause,
    time_cause,
)
from detector.events.frames import Frames
from detector.events.types import BBOX_dtype

SECOND = 1_000_000
GRID = Frames(0, 50_000, 200)  # 10 s


def boxes(*rows):
    return np.array([(t, x, y, w, h, c, track, 1) for t, x, y, w, h, c, track in rows], BBOX_dtype)


def boxes_at(times, step=0):
    return boxes(*((t, 1 + step * k, 2, 30, 40, 0, k) for k, t in enumerate(times)))


def test_every_kind_is_counted_by_hand():
    labels = boxes(
        (0, 10, 10, 30, 20, 0, 1),  # at the start: before the first frame
        (20_000, 10, 10, 30, 20, 0, 1),  # followed by 50,000 in its frame
        (50_000, 10, 10, 30, 20, 0, 1),
        (50_000, 10, 10, 30, 20, 0, 2),  # equal but for its track
        (50_000, 10, 10, 30, 20, 7, 3),  # no such class
        (100_000, 90, 10, 30, 20, 0, 1),  # reaches 10 px into the sensor's 100: too narrow when cut off
        (100_000, 100, 10, 30, 20, 0, 2),  # wholly beyond it
        (100_000, 10, 10, 0, 20, 0, 3),
        (150_000, 0, 0, 0, 0, 9, 0),  # an empty frame
        (10_000_001, 10, 10, 30, 20, 0, 1),  # after the end
    )
    counts = count_labels(
        labels, "a", GRID, names={0: "car", 9: "empty"}, sensor_size=(80, 100), min_box_side=11, min_box_diag=1
    )
    assert (counts.boxes, counts.times, counts.before, counts.after, counts.uncut) == (10, 6, 1, 1, 0)
    assert (counts.superseded, counts.repeated, counts.unknown) == (1, 1, 1)
    assert (counts.off_sensor, counts.no_area, counts.small) == (1, 1, 1)
    assert counts.faulty
    assert report_lines([counts]) == [
        "labels: 7 of 10 boxes kept",
        "  2 boxes outside the recordings: 1 at or before their start, 1 after their last frame",
        "  1 boxes of a class id that is not in the label map: never a target",
        "  1 boxes completely outside the sensor",
        "  1 boxes without width or height",
        "  1 boxes equal to an earlier one",
        "  1 boxes under data.min_box_diag or data.min_box_side: not counted in training and mAP",
        "  1 of 6 labelled times followed by a later one in their frame: only the last counts",
        *(f"  a: {cause}" for cause in counts.causes),
    ]


def test_cuts_start_streams_of_their_own():
    labels = boxes_at([50_000, 1_000_000, 1_000_001, 2_000_000, 3_000_000])
    counts = count_labels(labels, "a", GRID, cuts=[GRID.part(0, 1), GRID.part(20, 40)])
    assert counts.kept == 3
    assert (counts.before, counts.after, counts.uncut) == (0, 0, 2)  # 1.0 s is the start of the second cut
    assert not counts.faulty
    assert report_lines([counts]) == ["labels: 3 of 5 boxes kept", "  2 boxes in none of the cuts"]
    assert report_lines([counts], faults_only=True) == []


def test_the_files_formats_and_notes_are_named():
    formats, notes = ("npy", "coco", "coco", ""), ("one", "two", "three")
    counts = [
        LabelCounts(name, label_format=label_format, notes=(f"note of {name}",) * (name in notes))
        for name, label_format in zip(("one", "two", "three", "four"), formats, strict=True)
    ]
    lines = [
        "labels in the format npy: one",
        "labels in the format coco: 2 files, the first two",
        *(f"  {name}: note of {name}" for name in notes),
    ]
    assert report_lines(counts) == lines
    many = LabelCounts("many", notes=tuple(f"note {k}" for k in range(8)))
    assert report_lines([*counts, many])[-2:] == ["  many: note 6", "  ... and 1 more notes"]
    assert report_lines([*counts, replace(many, notes=many.notes[:7])])[-1] == "  many: note 6"


def test_at_most_ten_causes_are_listed():
    counts = [LabelCounts(f"file {k}", boxes=2, kept=1, causes=("late",)) for k in range(11)]
    assert report_lines(counts[:10])[-2:] == ["  file 8: late", "  file 9: late"]
    assert report_lines(counts) == [
        "labels: 11 of 22 boxes kept",
        *(f"  file {k}: late" for k in range(10)),
        "  ... and 1 more of such recordings",
    ]


def test_sizes_are_those_of_the_network():
    counts = count_labels(boxes_at([50_000]), "a", GRID, scale=0.5, min_box_diag=25)
    assert counts.small == 0  # 15 x 20 in network pixels
    assert count_labels(boxes_at([50_000]), "a", GRID, scale=0.5, min_box_diag=25.1).small == 1


def test_nothing_to_say():
    assert report_lines([]) == []
    assert report_lines([count_labels(boxes(), "a", GRID), count_labels(boxes_at([50_000]), "b", GRID)]) == []


LABELS_20_HZ = np.arange(1, 201) * 50_000


@pytest.mark.parametrize(
    ("times", "first", "last", "expected"),
    [
        # events 2 s later than the labels, which count from the first event
        (LABELS_20_HZ, 2 * SECOND, 12 * SECOND - 1, r"about 2\.0 s earlier than the events .*--label_offset 2000000$"),
        (
            LABELS_20_HZ,
            2_003_000,
            12_002_000,
            r"about 2\.0 s earlier .* from its first event: .*_offset 2003000$",
        ),
        # labels 2 s later than the events, which begin near 0
        (LABELS_20_HZ + 2 * SECOND, 3, 10 * SECOND - 1, r"about 2\.0 s later than .*--label_offset -20[0-4]\d{4}$"),
        # absolute times of day beside events from 0 on
        (LABELS_20_HZ + 1_700_000_000 * SECOND, 0, 10 * SECOND - 1, r"about 17000000\d\d\.\d s later"),
        # beyond 32 bits
        (LABELS_20_HZ, 2**33, 2**33 + 10 * SECOND, r"about 8589\.9 s earlier .*--label_offset 8589934592$"),
        (
            np.arange(1, 11),
            0,
            10 * SECOND,
            r"times 1 to 10 look like seconds, events last 10 s: .*_time_unit s$",
        ),
        (LABELS_20_HZ // 1000, 0, 10 * SECOND, r"look like milliseconds, .*--label_time_unit ms$"),
        (LABELS_20_HZ * 1000, 0, 10 * SECOND, r"look like nanoseconds, .*--label_time_unit ns$"),
        (np.append(LABELS_20_HZ, 10**15), 2 * SECOND, 12 * SECOND - 1, r"about 2\.0 s earlier"),  # and a wild time
        ([-(10**15), *LABELS_20_HZ, 10**15], 2 * SECOND, 12 * SECOND - 1, r"about 2\.0 s earlier"),
        (LABELS_20_HZ * 2, 0, 10 * SECOND - 1, r"labels last 19\.900 s, events 10\.000 s: no constant offset fits"),
    ],
)
def test_causes_of_times(times, first, last, expected):
    grid = Frames.of_events(first, last, 50_000)
    cause = time_cause(boxes_at(times), grid, (first, last))
    assert cause is not None
    assert len(cause.splitlines()) == 1
    assert re.search(expected, cause), cause


@pytest.mark.parametrize(("unit", "length"), [("s", 1e6), ("ms", 1e3), ("us", 1), ("ns", 1e-3)])
@pytest.mark.parametrize(("given", "given_length"), [("s", 1e6), ("ms", 1e3), ("us", 1), ("ns", 1e-3)])
def test_the_advised_unit_is_that_of_the_file(unit, length, given, given_length):
    times = np.rint(LABELS_20_HZ / length * given_length).astype(np.int64)
    grid = Frames.of_events(0, 10 * SECOND - 1, 50_000)
    cause = time_cause(boxes_at(times), grid, (0, 10 * SECOND - 1), given)
    if unit == given:
        assert cause is None
    elif np.unique(times).size > 1:
        assert cause is not None and cause.endswith(f"give --label_time_unit {unit}"), cause


@pytest.mark.parametrize(("last", "found"), [(10_560, True), (10_561, False)])
def test_times_in_another_unit_may_last_a_twentieth_and_a_frame_longer_than_the_events(last, found):
    times = [*range(10, 10_500, 50), last]  # milliseconds, from 10 ms on
    cause = time_cause(boxes_at(times), Frames.of_events(0, 10 * SECOND, 50_000), (0, 10 * SECOND))
    assert ("look like milliseconds" in str(cause)) == found


@pytest.mark.parametrize(
    "times",
    [
        LABELS_20_HZ,
        [0, *LABELS_20_HZ],  # one at the start
        np.arange(11) * SECOND,  # the first at the start, the last at the end
        [round(k * 1e6 / 60) for k in range(1, 601)],
        [16_667, 33_333, 50_000],  # the first frame only
        [*LABELS_20_HZ, 10**15],  # one wild time
        [5 * SECOND],
        [],
    ],
)
def test_sound_times_have_no_cause(times):
    assert time_cause(boxes_at(times), Frames.of_events(0, 10 * SECOND - 1, 50_000), (0, 10 * SECOND - 1)) is None


def test_an_offset_that_was_found_brings_the_labels_inside():
    for shift in (-3_456_789, 1_234_567, 2**34):
        first, last = 5 * SECOND, 15 * SECOND - 1
        labels = boxes_at(LABELS_20_HZ + 5 * SECOND - shift)
        grid = Frames.of_events(first, last, 50_000)
        cause = time_cause(labels, grid, (first, last))
        assert cause is not None
        labels["t"] += int(cause.rpartition(" ")[2])
        assert grid.inside(labels["t"]).mean() > 0.99


def test_few_boxes_outside_are_told_too_if_they_are_of_many_times():
    """Labels 0.4 s too early, and only one box in each of the first frames but ten in the others."""
    times = [int(t) - 400_000 for t in LABELS_20_HZ for _ in range(1 if t <= SECOND else 10)]
    cause = time_cause(boxes_at(times), GRID, (0, 10 * SECOND - 1))
    assert cause is not None and "seem about 0.4 s earlier" in cause


@pytest.mark.parametrize(("last", "found"), [(10_189_799, True), (10_189_800, False)])
def test_times_count_from_the_first_event_within_a_fiftieth_of_the_duration(last, found):
    grid, events = Frames(2 * SECOND, 50_000, 200), (2_010_000, 12 * SECOND - 1)  # a fiftieth is 199,799 us
    cause = time_cause(boxes_at([*range(150_000, 10_150_001, 50_000), last]), grid, events)
    assert cause is not None and ("as if they counted from its first event" in cause) == found, cause


@pytest.mark.parametrize(
    ("times", "frames", "unit"),
    [
        ([*range(0, 10_501, 50), 10_550], 200, "ms"),  # 1.05 times the duration and one frame
        ([*range(0, 10_501, 50), 10_551], 200, None),
        ([0, 1, 3], 20, "ms"),  # an interval of 1.5 ms
        ([0, 1, 2], 20, None),
        ([0, 1_499], 200, "ms"),
        ([0, 1_500], 200, None),  # a plausible interval in microseconds
        ([2_000_000, 998_000_000, 1_000_000_000, 1_002_000_000], 200, "ns"),  # a tenth of the duration
        ([2_000_000, 998_000_000, 1_000_000_000, 1_001_999_999], 200, None),
        ([2_000_000, 4_000_000, 1_002_000_000, 1_004_000_000], 200, None),  # half of them are inside
    ],
)
def test_times_in_another_unit_fill_the_recording_at_plausible_intervals(times, frames, unit):
    cause = time_cause(boxes_at(times), Frames(0, 50_000, frames), (0, frames * 50_000)) or ""
    assert ("look like" in cause, cause[-2:] == unit) == (unit is not None,) * 2, cause


def test_times_are_stated_in_the_unit_in_which_they_were_read():
    assert time_cause(boxes_at(np.arange(1, 11) * 1000), GRID, (0, 10 * SECOND), "ms") == (
        "label times 1 to 10 look like seconds and not milliseconds, events last 10 s: give --label_time_unit s"
    )


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (
            100_001,  # exactly as long as the recording
            10_100_000,
            "labels (0.100 to 10.100 s) seem about 0.1 s later than the events (0.000 to 10.000 s), -0.100 to -0.100 s "
            "bring all of them inside: give `build` --label_offset -100000",
        ),
        (
            1,  # a fiftieth longer
            10_200_000,
            "labels (0.000 to 10.200 s) seem about 0.1 s later than the events (0.000 to 10.000 s), as far as their "
            "ranges tell: give `build` --label_offset -100000",
        ),
        (
            1,
            10_200_001,
            "labels last 10.200 s, events 10.000 s: no constant offset fits, the recording may be cut short or another "
            "one",
        ),
    ],
)
def test_an_offset_fits_labels_that_are_hardly_longer_than_the_recording(first, last, expected):
    times = [first, *range(500_000, 10_000_001, 500_000), last]
    assert time_cause(boxes_at(times), GRID, (0, 10 * SECOND)) == expected


@pytest.mark.parametrize(
    ("grid", "start", "first", "last", "found"),
    [
        (Frames(2 * SECOND, 50_000, 200), 2_010_000, -209_798, 9_000_000, True),  # a fiftieth is 199,799 us
        (Frames(2 * SECOND, 50_000, 200), 2_010_000, -209_799, 9_000_000, False),
        (GRID, 50_001, -49_999, 9_950_000, True),
        (GRID, 50_000, -49_999, 9_950_000, False),  # the first event is in the first frame
    ],
)
def test_times_that_begin_before_the_recording_count_from_the_first_event(grid, start, first, last, found):
    times = [first, *range(500_000, 9_000_000, 500_000), last]
    cause = time_cause(boxes_at(times), grid, (start, int(grid.end) - 1))
    assert cause is not None and ("as if they counted from its first event" in cause) == found, cause


@pytest.mark.parametrize(("number", "found"), [(49, True), (50, False)])
def test_two_percent_of_the_times_outside_have_a_cause(number, found):
    cause = time_cause(boxes_at([*np.arange(1, number + 1) * 190_000, 10_000_001]), GRID, (0, 10 * SECOND - 1))
    assert (cause is not None) == found


def test_causes_of_places():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 60, 100), rng.uniform(0, 40, 100)
    w, h = rng.uniform(20, 40, 100), rng.uniform(20, 40, 100)

    def cause(*columns):
        return layout_cause(boxes(*((k, *row, 0, k) for k, row in enumerate(zip(*columns, strict=True)))), (80, 100))

    assert cause(x, y, w, h) is None
    assert "look like the centres" in (cause(x + w / 2, y + h / 2, w, h) or "")
    assert "look like the bottom-right corner" in (cause(x, y, x + w, y + h) or "")
    assert "multiply them by its size, 100 x 80 px" in (cause(x / 100, y / 80, w / 100, h / 80) or "")


@pytest.mark.parametrize(
    ("right", "bottom", "found"), [(100, 80, True), (101, 81, True), (102, 80, False), (100, 82, False)]
)
def test_a_bottom_right_corner_is_at_most_one_pixel_beyond_the_sensor(right, bottom, found):
    cause = layout_cause(boxes((0, 60, 50, right, bottom, 0, 1)), (80, 100))
    assert (cause is not None and "look like the bottom-right corner" in cause) == found


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, 0, 1, 1)], "relative to the image"),
        ([(-0.1, 0, 1, 1)], None),
        ([(0, -0.1, 1, 1)], None),
        ([(0, 0, 0, 1)], None),
        ([(0, 0, 1, 1), (1.5, 0, 1, 1)], None),
        ([(0, 0, 1, 1), (0, 1.5, 1, 1)], None),
        ([(0, 0, 1, 1), (0, 0, 1.5, 1)], None),
        ([(0, 0, 1, 1), (0, 0, 1, 1.5)], None),
        ([(71, 20, 30, 10)], None),  # one pixel beyond the sensor
        ([(71.5, 20, 30, 10)], "centres"),
        ([(10, 61, 10, 20)], None),
        ([(10, 61.5, 10, 20)], "centres"),
        ([(9, 9, 9, 9)] * 19 + [(80, 20, 30, 10)], "centres"),
        ([(9, 9, 9, 9)] * 20 + [(80, 20, 30, 10)], None),  # less than 5 % are beyond the sensor
        ([(60, 50, 61, 70)], "corner"),
        ([(60, 50, 60, 70)], None),  # a corner would be at the same x
        ([(60, 50, 90, 51)], "corner"),
        ([(60, 50, 90, 50)], None),
        ([(10, 60, 22, 30)], "centres"),  # from x = -1
        ([(10, 60, 22.5, 30)], None),
        ([(80, 10, 30, 22)], "centres"),  # from y = -1
        ([(80, 10, 30, 22.5)], None),
        ([(80, 30, 42, 10)], "centres"),  # to x = 101
        ([(80, 30, 43, 10)], None),
        ([(30, 60, 10, 42)], "centres"),  # to y = 81
        ([(30, 60, 10, 43)], None),
        ([(80, 30, 30, 10)] * 100 + [(80, 30, 60, 10)], "centres"),
        ([(80, 30, 30, 10)] * 99 + [(80, 30, 60, 10)], None),  # one of 100 does not fit
    ],
)
def test_layouts_have_borders(rows, expected):
    cause = layout_cause(boxes(*((0, *row, 0, 1) for row in rows)), (80, 100))
    assert cause is None if expected is None else cause is not None and expected in cause, cause


def test_boxes_of_larger_images_are_not_kept_and_have_a_cause():
    labels = boxes(
        (50_000, 10, 20, 30, 40, 0, 1),  # on the sensor
        (50_000, 500, 20, 30, 40, 0, 2),  # right of it
        (100_000, 40, 500, 30, 40, 0, 3),  # below it
        (100_000, 1200, 660, 76, 40, 0, 4),
    )
    counts = count_labels(labels, "a", GRID, sensor_size=(288, 384))
    assert (counts.boxes, counts.kept, counts.off_sensor) == (4, 1, 3)
    assert counts.causes == (
        "boxes reach x = 1276, y = 700, the sensor has 384 x 288 px: as if made for images of 1280 x 720 px; in this "
        "case, multiply x and w by 0.3, y and h by 0.4; `evforge check` lists the boxes",
    )
    assert "labels: 1 of 4 boxes kept" in report_lines([counts])


def test_the_likely_image_size():
    def cause(right, bottom, number=1):
        inside = [(50_000, 1, 1, 9, 9, 0, k) for k in range(20 - number)]
        outside = [(50_000, right - 5, bottom - 5, 5, 5, 0, 20 + k) for k in range(number)]
        return size_cause(boxes(*inside, *outside), (180, 240)) or ""

    assert "images of 304 x 240 px" in cause(304, 201)
    assert "images of 304 x 240 px" in cause(305, 201) and "images of 346 x 260 px" in cause(306, 240)
    assert "images of 304 x 240 px" in cause(290, 241) and "images of 346 x 260 px" in cause(290, 242)
    assert "images of 640 x 480 px" in cause(576, 300) and "other images" in cause(575, 300)  # 90 % of 640
    assert "images of 640 x 480 px" in cause(400, 432) and "other images" in cause(400, 431)
    few = [(50_000, 1, 1, 9, 9, 0, k) for k in range(20)]
    assert size_cause(boxes(*few, (50_000, 500, 400, 9, 9, 0, 20)), (180, 240)) is None  # less than 5 %
    assert "images of 640 x 480 px" in cause(500, 481)  # the height fits
    assert "other images or another sensor" in cause(500, 400)
    assert "other images or another sensor" in cause(4000, 3000)
    assert cause(300, 235, number=0) == ""
    assert size_cause(boxes(*((50_000, 230, 1, 30, 9, 0, k) for k in range(20))), (180, 240)) is None  # partly outside
    assert size_cause(boxes((50_000, -50, 1, 30, 9, 0, 1), (50_000, 9, 1, 30, 9, 0, 1)), (180, 240)) is None
    outside, corner = (50_000, -50, 1, 30, 9, 0, 1), (50_000, 230, 170, 10, 10, 0, 2)
    assert size_cause(boxes(outside, corner), (180, 240)) is None  # the boxes reach the edges and not farther
    assert size_cause(boxes(), (180, 240)) is None
