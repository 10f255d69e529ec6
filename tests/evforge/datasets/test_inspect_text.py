import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data.builder.label_counts import LabelCounts
from detector.data.check.inventory import DataFile, TensorHeader, find_data
from detector.data.check.statistics import LabelStatistics
from detector.data.check.survey import FileSurvey, survey_file
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.labels import save_labels
from evforge.datasets.inspect_text import box_text, dataset_text, file_text, survey_text

HEIGHT, WIDTH = 60, 80
NAMES = {0: "car", 1: "walker"}


def survey(path):
    return [survey_file(file, DataConfig(), NAMES) for file in find_data(path)]


def short_recording(path, times):
    events = np.zeros(len(times), EventCD)
    events["t"] = times
    write_dat(path, events, HEIGHT, WIDTH)
    return survey(path)[0]


def labels_of(sizes, class_ids=None, times=(250_000, 300_000)):
    times = np.array(times)
    ids = np.zeros(len(sizes), int) if class_ids is None else np.array(class_ids)
    return LabelStatistics(times, np.diff(times), np.array(sizes, np.float32).reshape(-1, 2), ids, 3)


def tensor_survey(path, labels=None, counts=None, preprocess="histo"):
    """A file of 40 frames of 20 ms in 3 x 4 pixels, of which 1 and 2 % are active."""
    header = TensorHeader((40, 2, 3, 4), np.dtype("uint8"), preprocess, 5.0, 20_000, 0, (6, 8), None)
    file, active = DataFile(path, path.parent.name, True), np.array([0.01, 0.02])
    sizes = (6, 8), (3, 4), (0, 800_000)
    return FileSurvey(
        file, "tensors", *sizes, 20_000, np.array([20_000, 40_000]), active, labels, counts, header=header
    )


def test_text_of_a_recording(tmp_path, write_recording):
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


def test_rates_are_over_the_true_duration(tmp_path):
    short = short_recording(tmp_path / "a.dat", np.linspace(45_600, 54_400, 1101).astype(int))  # 8.8 ms on a border
    assert "  event rate     125 kev/s mean\n" in file_text(short, {})  # 1101 / 8.8 ms
    two_bins = short_recording(tmp_path / "c.dat", range(30_000, 120_001, 1000))  # no rate of a bin reaches the mean
    assert "  event rate     1.01 kev/s mean\n" in file_text(two_bins, {})
    long = short_recording(tmp_path / "b.dat", range(40_000, 160_001, 1000))  # one event a millisecond
    assert "1.01 kev/s mean, 1 kev/s peak in 50 ms, at 0.05 s" in file_text(long, {})
    assert "  event rate     1.01 kev/s to 125 kev/s mean of a file" in survey_text(
        tmp_path, [short, long], {}, DataConfig()
    )


@pytest.mark.parametrize("times", [[70_000], [70_000] * 3])
def test_events_at_one_time_have_no_rate(tmp_path, times):
    found = short_recording(tmp_path / "a.dat", times)
    assert "  event rate     -\n" in file_text(found, {})
    assert "event rate" not in survey_text(tmp_path, [found, found], {}, DataConfig())


def test_one_labelled_time_has_boxes_but_no_rate(tmp_path, write_recording):
    path = write_recording(tmp_path / "a_td.dat")
    save_labels(tmp_path / "a_bbox.npy", np.array([(1_250_000, 5, 5, 20, 10, 0, 7, 1)], BBOX_dtype))
    assert file_text(survey(path)[0], NAMES).splitlines()[-3:] == [
        "  label rate     -, at 1.250 s",
        "  boxes          car: 1",
        "  tracks         1",
    ]


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


def test_text_of_a_tensor_file(tmp_path):
    labels = labels_of([(2, 3), (4, 3), (1, 1)], [1, 7, 1])
    assert file_text(tensor_survey(tmp_path / "a.h5", labels), NAMES).splitlines() == [
        str(tmp_path / "a.h5"),
        "  format         tensors",
        "  sensor         8 x 6 px",
        "  time           0.000 to 0.800 s, 0.800 s long",
        "  tensors        histo, 2 x 3 x 4 uint8, 20 ms per frame",
        "  frames         40",
        "  active px      1.50% of a frame (mean of 2 frames)",
        "  labels         a_bbox.npy: 3 boxes at 2 labelled times, 1.5 each",
        "  label rate     20 Hz (median interval 50 ms), 0.250 to 0.300 s",
        "  boxes          walker: 2, class 7: 1",
        "  tracks         3",
    ]
    lines = file_text(tensor_survey(tmp_path / "a.h5", preprocess=None), {}).splitlines()
    assert lines[4].startswith("  tensors        unknown preprocessing, 2 x")
    assert lines[-1] == "  labels         none, allowed: a_bbox.npy"


def test_label_files_without_boxes(tmp_path):
    lines = file_text(tensor_survey(tmp_path / "a.h5", labels_of([])), NAMES).splitlines()
    assert lines[-4:-1] == [
        "  labels         a_bbox.npy: 0 boxes at 2 labelled times, 0 each",
        "  label rate     20 Hz (median interval 50 ms), 0.250 to 0.300 s",
        "  boxes          none",
    ]
    lines = file_text(tensor_survey(tmp_path / "a.h5", labels_of([], times=())), NAMES).splitlines()
    assert lines[-1] == "  labels         a_bbox.npy: 0 boxes at 0 labelled times, 0 each"


def test_a_split_without_labels_has_no_rate(tmp_path):
    labels = labels_of([(2, 3)], [7], times=[250_000])
    surveys = [tensor_survey(tmp_path / "train" / "a.h5", labels), tensor_survey(tmp_path / "val" / "b.h5")]
    rows = [line.split() for line in dataset_text(surveys, NAMES).splitlines()[2:]]
    assert rows == [
        ["train", "1", "0.000", "40", "1", "-", "1", "1", "1.50%"],
        ["val", "1", "0.000", "40", "-", "-", "-", "0", "1.50%"],
        ["all", "2", "0.000", "80", "1", "-", "1", "1", "1.50%"],
    ]
    assert dataset_text(surveys[:1], NAMES).count("\n") == 2  # one split is all


def test_the_size_of_boxes_at_the_limits():
    sizes = [(31, 33), (32, 32), (96, 96), (200, 100)]  # areas 1023, 1024, 9216 and 20000
    text = box_text(labels_of([*sizes, (0, 50)]), DataConfig(min_box_diag=0, min_box_side=0)).splitlines()
    assert text[7] == "COCO sizes: 25.0% small (area < 32² px), 25.0% medium, 50.0% large (from 96² px)"
    for diagonal, side, share in ((50, 0, "0.0%"), (50.1, 0, "50.0%"), (0, 30, "0.0%"), (0, 30.1, "50.0%")):
        data = DataConfig(min_box_diag=diagonal, min_box_side=side)
        text = box_text(labels_of([(40, 30), (100, 200)]), data).splitlines()[6]
        assert text == (
            f"below {diagonal:g} px diagonal or {side:g} px side, dropped by the protocol "
            f"(data.min_box_diag, data.min_box_side): {share}"
        )
    assert box_text(labels_of([(0, 50)]), DataConfig()) == "box sizes: no boxes"


def test_the_parts_of_the_text(tmp_path):
    path, labels = tmp_path / "train" / "a.h5", labels_of([(2, 3)])
    counts = LabelCounts("a_bbox.npy", boxes=3, times=2, kept=1, after=2)
    one = survey_text(path, [tensor_survey(path, labels, counts)], NAMES, DataConfig()).split("\n\n")
    assert [part.split("\n")[0].split()[0] for part in one] == [str(path), "box", "labels:"]
    assert one[2].startswith("labels: 1 of 3 boxes kept")
    assert len(survey_text(path, [tensor_survey(path)], NAMES, DataConfig()).split("\n\n")) == 1
    other = tensor_survey(tmp_path / "val" / "b.h5", labels_of([(4, 6)]), preprocess="diff")
    both = survey_text(tmp_path, [tensor_survey(path, labels), other], NAMES, DataConfig()).split("\n\n")
    assert both[0].splitlines() == [
        str(tmp_path),
        "  sensor         8 x 6 px",
        "  files          diff, 2 x 3 x 4 uint8, 20 ms per frame; histo, 2 x 3 x 4 uint8, 20 ms per frame",
    ]
    assert both[1].startswith("split  files")
    assert both[2].splitlines()[2].split() == ["width", "2.1", "3", "3.9"]  # of both files


def test_the_units_of_event_rates(tmp_path):
    rates = {"a.dat": [0, 10_000, 20_000], "b.dat": range(0, 10_001, 10), "c.dat": [0, 2, *[3] * 30]}
    surveys = [short_recording(tmp_path / name, list(times)) for name, times in rates.items()]
    texts = [file_text(found, {}).splitlines()[5].split()[2:] for found in surveys]
    # 3 / 20 ms, 1001 / 10 ms, 32 / 3 us
    assert texts == [["150", "ev/s", "mean"], ["100", "kev/s", "mean"], ["10.7", "Mev/s", "mean"]]
    text = survey_text(tmp_path, surveys, {}, DataConfig())
    assert "  event rate     150 ev/s to 10.7 Mev/s mean of a file, median 100 kev/s" in text.splitlines()
