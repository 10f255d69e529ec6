import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from detector.config.groups import DataConfig
from detector.data.check.inventory import DataFile, find_data
from detector.data.check.statistics import LabelStatistics
from detector.data.check.survey import FileSurvey, survey_file
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.visualization.drawing import OFF_COLOR, ON_COLOR
from evforge.datasets import inspect_figures
from evforge.datasets.inspect_figures import CLASS_COLOURS, Sample, boxes_figure, rate_figure, samples_figure

NAMES = {0: "car", 1: "walker"}


def survey(path):
    return [survey_file(file, DataConfig(), NAMES) for file in find_data(path)]


def labels_of(sizes, class_ids):
    return LabelStatistics(np.zeros(1), np.zeros(0), np.array(sizes, np.float32), np.array(class_ids), 1)


def tensor_survey(active, name="a", split=None):
    """Frames of 20 ms with these shares of active pixels, and without labels."""
    active, file = np.array(active), DataFile(Path(f"{name}.h5"), split, True)
    times = 20_000 * np.arange(1, active.size + 1)
    return FileSurvey(file, "tensors", (6, 8), (3, 4), (0, 20_000 * active.size), 20_000, times, active, None)


def recording_at(path, times):
    events = np.zeros(len(times), EventCD)
    events["t"] = times
    write_dat(path, events, 60, 80)
    return survey(path)[0]


def lines_of(axes):
    return [np.stack(line.get_data()) for line in axes.get_lines()]


def test_curves_of_a_few_files_and_points_of_many(dataset):
    surveys = survey(dataset)
    few = rate_figure(surveys, "street")
    assert [axes.get_ylabel() for axes in few.axes] == ["event rate\n(1000 events/s)"] * 3
    assert [axes.get_title("left") for axes in few.axes][0] == "train/train0_td.dat"
    np.testing.assert_allclose(few.axes[0].get_lines()[0].get_ydata(), 0.04)
    assert few.axes[0].get_legend().get_texts()[0].get_text() == "labelled times (3)"
    many = rate_figure(surveys * 3, "street")
    assert len(many.axes) == 1
    assert [text.get_text() for text in many.legends[0].get_texts()] == ["train", "test"]


def test_boxes_have_the_colour_of_their_class_and_the_limits_of_the_protocol(dataset):
    figure = boxes_figure(survey(dataset)[0].labels, NAMES, DataConfig(), "street")
    sizes, counts = figure.axes
    assert sizes.get_xlabel() == "box width (network px)"
    assert sizes.collections[0].get_offsets().tolist() == [[20, 10]] * 3
    bars = counts.patches
    assert [bar.get_width() for bar in bars] == [3, 3]
    assert tuple(sizes.collections[0].get_facecolor()[0][:3]) == bars[0].get_facecolor()[:3]
    assert [label.get_text() for label in counts.get_yticklabels()] == ["car", "walker"]
    assert "diagonal < 30 px or side < 10 px" in sizes.get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_samples_of_any_preprocessing(channels):
    frame = np.linspace(-1, 1, channels * 12).reshape(channels, 3, 4).astype(np.float32)
    boxes = np.array([(0, 1, 1, 2, 2, 1, 0, 1)], BBOX_dtype)
    figure = samples_figure([Sample("a", 1_500_000, frame, boxes), Sample("a", 2_000_000, frame, None)], NAMES, "t")
    assert [axes.get_title() for axes in figure.axes] == ["1.50 s, boxes: 1", "2.00 s"]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["ON events", "OFF events", "walker"]


def test_figures_need_no_pyplot():
    code = (
        "import sys, evforge.datasets.inspect_figures as figures; figures.samples_figure([], {}, 't');"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rates_are_over_the_true_duration(tmp_path):
    short = recording_at(tmp_path / "a.dat", np.linspace(45_600, 54_400, 1101).astype(int))  # 8.8 ms on a border
    np.testing.assert_allclose(lines_of(rate_figure([short], "a").axes[0])[0], [[0.0456], [1101 / 8.8]])
    long = recording_at(tmp_path / "b.dat", range(40_000, 160_001, 1000))  # one event a millisecond
    # no dip at either end, where bins are covered in part
    np.testing.assert_allclose(lines_of(rate_figure([long], "b").axes[0])[0], [[0.05, 0.1], [1, 1]])


@pytest.mark.parametrize(("times", "text"), [([], "no events"), ([70_000] * 3, "all events at one time")])
def test_recordings_without_a_curve_say_why(tmp_path, times, text):
    (axes,) = rate_figure([recording_at(tmp_path / "a.dat", times)], "a").axes
    assert [found.get_text() for found in axes.texts] == [text] and len(axes.get_lines()) == 0


def test_active_pixels_of_tensor_files():
    (axes,) = rate_figure([tensor_survey([0.01, 0.04, 0.02])], "a").axes
    np.testing.assert_allclose(lines_of(axes), [[[0.02, 0.04, 0.06], [1, 4, 2]]])
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("active pixels\nof a frame (%)", "time (s)")
    assert axes.get_title("left") == "" and axes.get_legend() is None and axes.get_ylim()[0] == 0


def test_long_curves_are_the_mean_and_range_of_groups(monkeypatch):
    monkeypatch.setattr(inspect_figures, "MAX_POINTS", 3)
    (axes,) = rate_figure([tensor_survey([0.01, 0.05, 0.03, 0.02, 0.02, 0.08, 0.09])], "a").axes
    # Seven points in groups of three: the last group has one.
    np.testing.assert_allclose(lines_of(axes)[0], [[0.02, 0.08, 0.14], [3, 4, 9]])
    corners = {tuple(np.round(corner, 6)) for corner in axes.collections[0].get_paths()[0].vertices}
    assert corners == {(0.02, 1), (0.02, 5), (0.08, 2), (0.08, 8), (0.14, 9)}


def test_many_files_are_points_with_a_range():
    shares = [np.array([0.01, 0.02, 0.05]) * (index + 1) for index in range(7)]
    splits = ["train"] * 4 + ["val", None, "val"]
    files = [tensor_survey(share, f"file{index}", splits[index]) for index, share in enumerate(shares)]
    (axes,) = rate_figure(files, "a").axes
    train, val, rest = (container.lines[0].get_xydata().tolist() for container in axes.containers)
    np.testing.assert_allclose(train, [[0, 2], [1, 4], [2, 6], [3, 8]])
    np.testing.assert_allclose([val, rest * 2], [[[4, 10], [6, 14]], [[5, 12]] * 2])
    (bars,) = axes.containers[0].lines[2]
    np.testing.assert_allclose(bars.get_segments()[1], [[1, 2 * 1.1], [1, 2 * 4.7]])  # 5 and 95 %
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["train", "val", "files"]
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"file{index}" for index in range(7)]
    assert axes.get_ylabel() == "active pixels of a frame (%)\nmedian, 5 to 95 % of the time"
    empty = rate_figure([tensor_survey([]), *files], "a").axes[0]
    np.testing.assert_allclose(empty.containers[0].lines[0].get_xydata(), [[0, 0], [6, 12]])
    many = rate_figure([tensor_survey([0.01], f"file{index}") for index in range(31)], "a").axes[0]
    assert "file0" not in [label.get_text() for label in many.get_xticklabels()]


@pytest.mark.parametrize(
    ("sizes", "diagonal", "side", "low", "high"),
    [
        ([(20, 10), (40, 30)], 30, 10, 8, 64),
        ([(2, 90), (40, 30)], 30, 10, 2, 90),
        ([(0.5, 20)], 100, 10, 1, 100),
        ([(20, 20)], 0, 5, 5, 64),
        ([(20, 20)], 6, 0, 6, 64),
        ([(0, 9)], 30, 10, 8, 100),  # no box with an area
    ],
)
def test_all_boxes_and_limits_are_visible(sizes, diagonal, side, low, high):
    data = DataConfig(min_box_diag=diagonal, min_box_side=side)
    axes = boxes_figure(labels_of(sizes, [0] * len(sizes)), NAMES, data, "a").axes[0]
    np.testing.assert_allclose([axes.get_xlim(), axes.get_ylim()], [[low / 1.25, high * 1.25]] * 2)


def test_lines_of_equal_area_and_sizes_that_are_dropped():
    data = DataConfig(min_box_diag=30, min_box_side=10)
    axes = boxes_figure(labels_of([(20, 100), (40, 30)], [0, 0]), NAMES, data, "a").axes[0]
    small, large, _ = lines_of(axes)
    np.testing.assert_allclose([small[0] * small[1], large[0] * large[1]], [[32**2] * 400, [96**2] * 400])
    assert [text.get_text() for text in axes.texts] == ["small / medium", "medium / large"]
    (area,) = [found for found in axes.collections if found.get_label().startswith("dropped")]
    path = area.get_paths()[0]
    for point, inside in (((9, 90), True), ((11, 27), True), ((11, 29), False), ((27, 11), True), ((29, 9), True)):
        assert path.contains_point(point) is inside, point
    assert not path.contains_point((29, 11))


def test_sizes_have_ticks_at_powers_of_two_without_exponents():
    figure = boxes_figure(labels_of([(20, 100), (40, 30)], [0, 0]), NAMES, DataConfig(), "a")
    figure.draw_without_rendering()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        texts = [tick.get_text() for tick in axis.get_ticklabels()]
        assert texts == [str(2**k) for k in range(3, 7)] and axis.get_minorticklocs().size == 0


def test_at_most_so_many_boxes_are_drawn(monkeypatch):
    monkeypatch.setattr(inspect_figures, "MAX_BOXES", 5)
    sizes = [(20 + index, 10) for index in range(9)]
    figure = boxes_figure(labels_of([*sizes, (40, 30)], [7] * 9 + [0]), NAMES, DataConfig(), "a")
    car, other = (found.get_offsets() for found in figure.axes[0].collections[:2])
    assert car.tolist() == [[40, 30]]
    assert len({tuple(size) for size in other.tolist()} & set(sizes)) == len(other) == 5
    assert [bar.get_width() for bar in figure.axes[1].patches] == [1, 9]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["car", "class 7"]


def test_a_sample_shows_its_boxes_and_events():
    frame = np.zeros((2, 6, 8), np.uint8)
    frame[0, 1, 2] = frame[1, 4, 5] = 3  # OFF, ON
    boxes = np.array([(0, 1, 2, 3, 4, 1, 0, 1), (0, 5, 0, 2, 1, 0, 0, 1), (0, 0, 0, 1, 2, 1, 0, 1)], BBOX_dtype)
    figure = samples_figure([Sample("a", 1_500_000, frame, boxes)], NAMES, "t")
    (axes,) = figure.axes
    *rectangles, border = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in rectangles] == [
        (1, 2, 3, 4),
        (5, 0, 2, 1),
        (0, 0, 1, 2),
    ]
    colours = [to_hex(patch.get_edgecolor()).upper() for patch in rectangles]
    assert colours == [CLASS_COLOURS[1], CLASS_COLOURS[0], CLASS_COLOURS[1]]
    assert (border.get_width(), border.get_height()) == (8, 6)
    (image,) = axes.get_images()
    assert image.get_extent() == [0, 8, 6, 0]
    pixels = np.asarray(image.get_array()).astype(int)
    others = np.argwhere((pixels != pixels[0, 0]).any(axis=2)).tolist()
    assert others == [[1, 2], [4, 5]]
    assert (pixels[1, 2].tolist(), pixels[4, 5].tolist()) == (list(OFF_COLOR), list(ON_COLOR))
    on, off, car, walker = figure.legends[0].get_patches()
    inks = [[round(255 * part) for part in patch.get_facecolor()[:3]] for patch in (on, off)]
    assert inks == [list(ON_COLOR), list(OFF_COLOR)]
    assert [to_hex(patch.get_edgecolor()).upper() for patch in (car, walker)] == list(CLASS_COLOURS[:2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ON events", "OFF events", "car", "walker"]


@pytest.mark.parametrize("values", [[-2, 3], [-2, 3, 0]])
def test_signed_frames_show_off_and_on_events(values):
    """Values below 0 are OFF events. So are those of both polarities in one channel or in several."""
    signed, plain = np.zeros((len(values), 6, 8), np.float32), np.zeros((2, 6, 8), np.uint8)
    signed[0, 1, 2], signed[1, 4, 5] = values[:2]
    plain[0, 1, 2], plain[1, 4, 5] = 2, 3
    images = [
        samples_figure([Sample("a", 0, frame, None)], {}, "t").axes[0].get_images()[0] for frame in (signed, plain)
    ]
    assert np.array_equal(*(image.get_array() for image in images))


def test_single_events_remain_visible_in_wide_frames():
    frame = np.zeros((2, 5, 1001), np.uint8)  # two pixels become one; the last row and column are left out
    frame[1, 3, 700] = 1
    (image,) = samples_figure([Sample("a", 0, frame, None)], {}, "t").axes[0].get_images()
    pixels = np.asarray(image.get_array()).astype(int)
    assert pixels.shape[:2] == (2, 500) and image.get_extent() == [0, 1001, 5, 0]
    assert np.argwhere((pixels != pixels[0, 0]).any(axis=2)).tolist() == [[1, 350]]


def test_samples_are_in_rows_of_four():
    frame = np.zeros((2, 3, 4), np.uint8)
    figure = samples_figure([Sample(name, 1_000_000, frame, None) for name in "abcde"], {}, "t")
    assert [axes.get_title() for axes in figure.axes] == [f"{name}\n1.00 s" for name in "abcde"] + [""] * 3
    np.testing.assert_allclose(figure.get_size_inches(), (16, (3 + 0.45) * 2 + 0.8))
    none = samples_figure([], {}, "t")
    assert [text.get_text() for text in none.axes[0].texts] == ["no data"]
    np.testing.assert_allclose(none.get_size_inches(), (4, 3 + 0.25 + 0.8))
