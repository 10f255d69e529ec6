import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from detector.config import Config
from detector.config.groups import DataConfig
from detector.data.check.inventory import find_data
from detector.data.check.survey import survey_file
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.labels import save_labels
from evforge.cli.main import main
from evforge.datasets.inspect import inspect
from evforge.datasets.inspect_figures import Sample, boxes_figure, rate_figure, samples_figure
from evforge.datasets.inspect_text import box_text, dataset_text, file_text, survey_text

HEIGHT, WIDTH = 60, 80
NAMES = {0: "car", 1: "walker"}


def write_recording(path, start=1_000_000):
    """40 events in a second, every fourth ON; boxes of 20 x 10 (car) and 40 x 30 (walker) at 4 Hz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    events = np.zeros(40, EventCD)
    events["t"] = start + 25_000 * np.arange(40)
    events["x"] = events["y"] = np.arange(40)
    events["p"] = np.arange(40) % 4 == 0
    write_dat(path, events, HEIGHT, WIDTH)
    rows = [(start + t, 5, 5, *size, c, c, 1) for t in (250_000, 500_000, 750_000) for c, size in enumerate(SIZES)]
    save_labels(path.with_name(path.name.replace("_td.dat", "_bbox.npy")), np.array(rows, BBOX_dtype))
    return path


SIZES = [(20, 10), (40, 30)]


@pytest.fixture
def dataset(tmp_path):
    for split, count in (("train", 2), ("test", 1)):
        for index in range(count):
            write_recording(tmp_path / "street" / split / f"{split}{index}_td.dat")
    (tmp_path / "street" / "label_map_dictionary.json").write_text(json.dumps(NAMES))
    return tmp_path / "street"


def survey(path):
    return [survey_file(file, DataConfig(), NAMES) for file in find_data(path)]


def test_text_of_a_recording(tmp_path):
    path = write_recording(tmp_path / "a_td.dat")
    assert file_text(survey(path)[0], NAMES).splitlines() == [
        str(path),
        "  format         DAT",
        "  sensor         80 x 60 px",
        "  time           1.000 to 1.975 s, 0.975 s long",
        "  events         40: ON 25.0%, OFF 75.0%",
        "  event rate     41 ev/s mean, 40 ev/s peak in 50 ms, at 1.00 s",
        "  longest gap    25.000 ms without events, from 1.000 s",
        "  active px      0.8% ever, 0.04% in 50 ms (mean)",
        "  triggers       none",
        "  labels         a_bbox.npy: 6 boxes at 3 labelled times, 2 each",
        "  label rate     4 Hz (median interval 250 ms), 1.250 to 1.750 s",
        "  boxes          car: 3, walker: 3",
        "  tracks         2",
    ]


def test_faulty_events_are_counted_and_printed(tmp_path, capsys):
    path = tmp_path / "a_td.dat"
    write_dat(path, np.zeros(200, EventCD), 8, 12)
    content = bytearray(path.read_bytes())
    content[-8 * 50 + 6 : -8 * 47 + 6 : 8] = b"\xff" * 3  # y
    path.write_bytes(content)
    arguments = ["inspect", str(path), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "  faulty events  3 outside the sensor (dropped)" in capsys.readouterr().out.splitlines()
    assert main([*arguments, "--data.max_faulty_events", "0"]) == 2
    assert "a_td.dat: 3 of 200 events are faulty" in capsys.readouterr().err
    main(["check", str(path)])
    assert "faulty events" in capsys.readouterr().out
    main(["check", str(path), "--data.max_faulty_events", "0"])
    assert "3 of 200 events are faulty" in capsys.readouterr().out


def test_text_of_a_recording_without_events_or_labels(tmp_path):
    write_dat(tmp_path / "a.dat", np.empty(0, EventCD), HEIGHT, WIDTH)
    lines = file_text(survey(tmp_path)[0], {}).splitlines()
    assert lines[-3:-1] == ["  events         none", "  triggers       none"]
    assert lines[-1].startswith("  labels         none, allowed: a_bbox.npy, a.json, a_labels/, a_voc/, a_gt.txt, ")
    (tmp_path / "b.dat").write_bytes((tmp_path / "a.dat").read_bytes())
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "000007.txt").write_text("0 0.5 0.25 0.125 0.0625\n")
    assert file_text(survey(tmp_path)[1], {}).splitlines()[-1] == (
        "  labels         none, allowed: b_labels/ instead of labels/, which could belong to any of the 2 recordings "
        "in this folder"
    )


def short_recording(path, times):
    events = np.zeros(len(times), EventCD)
    events["t"] = times
    write_dat(path, events, HEIGHT, WIDTH)
    return survey(path)[0]


def test_rates_are_over_the_true_duration(tmp_path):
    short = short_recording(tmp_path / "a.dat", np.linspace(45_600, 54_400, 1101).astype(int))  # 8.8 ms on a border
    assert "  event rate     125 kev/s mean\n" in file_text(short, {})  # 1101 / 8.8 ms
    curve = rate_figure([short], "a").axes[0].get_lines()[0]
    np.testing.assert_allclose(np.stack(curve.get_data()), [[0.0456], [1101 / 8.8]])
    two_bins = short_recording(tmp_path / "c.dat", range(30_000, 120_001, 1000))  # no rate of a bin reaches the mean
    assert "  event rate     1.01 kev/s mean\n" in file_text(two_bins, {})
    long = short_recording(tmp_path / "b.dat", range(40_000, 160_001, 1000))  # one event a millisecond
    assert "1.01 kev/s mean, 1 kev/s peak in 50 ms, at 0.05 s" in file_text(long, {})
    curve = rate_figure([long], "b").axes[0].get_lines()[0]  # no dip at either end, where bins are covered in part
    np.testing.assert_allclose(np.stack(curve.get_data()), [[0.05, 0.1], [1, 1]])
    assert "  event rate     1.01 kev/s to 125 kev/s mean of a file" in survey_text(
        tmp_path, [short, long], {}, DataConfig()
    )


@pytest.mark.parametrize("times", [[70_000], [70_000] * 3])
def test_events_at_one_time_have_no_rate(tmp_path, times):
    found = short_recording(tmp_path / "a.dat", times)
    assert "  event rate     -\n" in file_text(found, {})
    rate_figure([found], "a")
    assert "event rate" not in survey_text(tmp_path, [found, found], {}, DataConfig())


def test_one_labelled_time_has_boxes_but_no_rate(tmp_path):
    path = write_recording(tmp_path / "a_td.dat")
    save_labels(tmp_path / "a_bbox.npy", np.array([(1_250_000, 5, 5, 20, 10, 0, 7, 1)], BBOX_dtype))
    assert file_text(survey(path)[0], NAMES).splitlines()[-3:] == [
        "  label rate     -, at 1.250 s",
        "  boxes          car: 1",
        "  tracks         1",
    ]


def test_labels_that_do_not_fit_are_counted_with_their_cause(tmp_path, capsys):
    path = write_recording(tmp_path / "a_td.dat", start=3_000_000)
    rows = [(t, 5, 5, *SIZES[1], 0, t, 1) for t in range(50_000, 1_000_000, 50_000)]
    save_labels(tmp_path / "a_bbox.npy", np.array(rows, BBOX_dtype))
    assert main(["inspect", str(path), "--output", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "labels: 0 of 19 boxes kept\n  19 boxes outside the recordings: 19 at or before their start, 0 after" in text
    assert "seem about 3.0 s earlier than the events" in text


def test_labels_elsewhere(tmp_path, capsys):
    path = write_recording(tmp_path / "a_td.dat")
    given = tmp_path / "elsewhere" / "given.npy"
    given.parent.mkdir()
    (tmp_path / "a_bbox.npy").rename(given)
    arguments = ["--labels", str(given), "--output", str(tmp_path / "out")]
    assert main(["inspect", str(path), *arguments]) == 0
    assert "  labels         given.npy: 6 boxes at 3 labelled times, 2 each" in capsys.readouterr().out
    main(["check", str(path), *arguments])
    assert "recording without labels" not in capsys.readouterr().out
    main(["check", str(path)])
    assert "recording without labels: none beside it, allowed: a_bbox.npy, a.json, " in capsys.readouterr().out
    write_recording(tmp_path / "b_td.dat")
    for paths in ([str(tmp_path)], [str(path), str(tmp_path / "b_td.dat")]):
        for verb in ("inspect", "check"):
            assert main([verb, *paths, *arguments]) == 2
            assert "for 2 " in capsys.readouterr().err
    assert main(["inspect", str(path), "--labels", "none.npy"]) == 2
    assert "none.npy: no such label file" in capsys.readouterr().err


def test_table_of_a_dataset(dataset):
    assert dataset_text(survey(dataset), NAMES) == (
        "split  files  hours  frames  labelled times  label rate  boxes  car  walker  active px\n"
        "-----  -----  -----  ------  --------------  ----------  -----  ---  ------  ---------\n"
        "train      2  0.001      40               6        4 Hz     12    6       6      0.04%\n"
        "test       1  0.000      20               3        4 Hz      6    3       3      0.04%\n"
        "all        3  0.001      60               9        4 Hz     18    9       9      0.04%"
    )


def test_text_of_boxes(dataset):
    labels = survey(dataset)[0].labels
    text = box_text(labels, DataConfig(min_box_diag=30, min_box_side=10)).splitlines()
    # Diagonals are 22.4 and 50; areas 200 and 1200, COCO's bounds are 1024 and 9216.
    assert text[2].split() == ["width", "20", "30", "40"]
    assert text[4].split() == ["diagonal", "22.4", "36.2", "50"]
    assert text[5].split() == ["height", "/", "width", "0.5", "0.625", "0.75"]
    assert text[6].endswith("(data.min_box_diag, data.min_box_side): 50.0%")
    assert text[7] == "COCO sizes: 50.0% small (area < 32² px), 50.0% medium, 0.0% large (from 96² px)"
    assert box_text(labels, DataConfig(min_box_diag=0, min_box_side=0)).splitlines()[6].endswith(" 0.0%")


def colours(path):
    """Size of a picture and the number of its colours."""
    with Image.open(path) as image:
        return image.size, len(image.convert("RGB").getcolors(1 << 24))


def test_verb_prints_and_draws(dataset, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["inspect", str(dataset), "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert "labelled times" in text
    assert text.endswith(f"figures: {output}\n")
    assert sorted(path.name for path in output.iterdir()) == [
        "boxes.png",
        "event_rate.png",
        "first_boxes.png",
        "samples.png",
    ]
    for path in output.iterdir():
        size, count = colours(path)
        assert min(size) > 300
        assert count > 20


def test_several_paths_have_a_folder_each(dataset, tmp_path):
    paths = [str(dataset), str(dataset / "train" / "train0_td.dat")]
    assert inspect(paths, Config(), str(tmp_path / "out")) == [tmp_path / "out" / "street", tmp_path / "out/train0_td"]


def test_folders_are_named_after_what_was_inspected(dataset, tmp_path):
    (folder,) = inspect([str(dataset)], Config.load(None, {"train.storage": str(tmp_path / "runs")}))
    assert folder.parent == tmp_path / "runs"
    assert folder.name.startswith("inspect-street-2")


def test_files_that_cannot_be_read_are_left_out(dataset, tmp_path, capsys):
    (dataset / "train" / "train0_td.dat").write_bytes(b"% Height 60\nnonsense")
    inspect([str(dataset)], Config(), str(tmp_path / "out"))
    assert f"left out: {dataset / 'train' / 'train0_td.dat'}: " in capsys.readouterr().out
    assert main(["inspect", str(dataset / "train" / "train0_td.dat")]) == 2
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2


def test_a_figure_that_fails_is_a_warning(dataset, tmp_path, monkeypatch, capsys):
    def broken(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("evforge.datasets.inspect.rate_figure", broken)
    (folder,) = inspect([str(dataset)], Config(), str(tmp_path / "out"))
    assert sorted(path.name for path in folder.iterdir()) == ["boxes.png", "first_boxes.png", "samples.png"]
    assert "event_rate.png was not drawn: RuntimeError: no fonts" in capsys.readouterr().err


def test_recordings_without_labels_have_no_picture_of_boxes(dataset, tmp_path):
    for path in dataset.rglob("*_bbox.npy"):
        path.unlink()
    (folder,) = inspect([str(dataset)], Config(), str(tmp_path / "out"))
    assert sorted(path.name for path in folder.iterdir()) == ["event_rate.png", "samples.png"]


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
