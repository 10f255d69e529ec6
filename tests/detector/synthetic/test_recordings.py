import json

import numpy as np
import pytest

from detector.events import BBOX_dtype, EventCD, open_events
from detector.labels import load_labels
from detector.synthetic import make_recording, write_dataset

HEIGHT, WIDTH = 120, 160
PERIOD = 50_000


@pytest.fixture(scope="module")
def recording():
    return make_recording(np.random.default_rng(0), 4.0, HEIGHT, WIDTH, PERIOD)


def test_events_are_sorted_and_inside_the_frame(recording):
    events, _ = recording
    assert events.dtype == EventCD
    assert (np.diff(events["t"]) >= 0).all()
    assert events["x"].max() < WIDTH
    assert events["y"].max() < HEIGHT
    assert set(events["p"].tolist()) == {0, 1}


def test_time_starts_anywhere_and_lasts_as_asked(recording):
    events, _ = recording
    assert events["t"][0] >= 1_000_000
    assert events["t"][-1] - events["t"][0] == pytest.approx(4_000_000, abs=10_000)
    other, _ = make_recording(np.random.default_rng(1), 0.2, HEIGHT, WIDTH, PERIOD)
    assert other["t"][0] != events["t"][0]


def test_labels_are_cropped_boxes_at_multiples_of_the_period(recording):
    events, labels = recording
    assert labels.dtype == BBOX_dtype
    assert (labels["t"] % PERIOD == 0).all()
    assert events["t"][0] < labels["t"].min() <= events["t"][0] + 2 * PERIOD
    assert labels["t"].max() <= events["t"][-1]
    assert (labels["x"] >= 0).all()
    assert (labels["y"] >= 0).all()
    assert (labels["x"] + labels["w"] <= WIDTH).all()
    assert (labels["y"] + labels["h"] <= HEIGHT).all()
    assert min(labels["w"].min(), labels["h"].min()) > 3
    assert set(labels["class_id"].tolist()) == {0, 1}


def test_a_track_is_one_object(recording):
    _, labels = recording
    for track in np.unique(labels["track_id"]):
        rows = labels[labels["track_id"] == track]
        assert len(np.unique(rows["class_id"])) == 1
        assert (np.diff(rows["t"]) > 0).all()
        center = rows["x"] + rows["w"] / 2
        near = np.diff(rows["t"]) == PERIOD
        assert (np.abs(np.diff(center))[near] < 6).all()  # at most 68 pixels per second, and half a cropped side


def test_labels_lie_on_the_moving_objects():
    """Boxes hold far more events than places of the same size elsewhere."""
    events, labels = make_recording(np.random.default_rng(5), 3.0, HEIGHT, WIDTH, PERIOD)
    inside = outside = area_inside = 0
    times = np.unique(labels["t"])
    for time in times:
        window = events[np.searchsorted(events["t"], time - PERIOD) : np.searchsorted(events["t"], time)]
        mask = np.zeros((HEIGHT, WIDTH), bool)
        for row in labels[labels["t"] == time]:
            x, y = int(row["x"]), int(row["y"])
            mask[y : y + int(row["h"]), x : x + int(row["w"])] = True
        hits = mask[window["y"], window["x"]].sum()
        inside, outside, area_inside = inside + hits, outside + len(window) - hits, area_inside + mask.sum()
    area_outside = len(times) * HEIGHT * WIDTH - area_inside
    assert inside / area_inside > 3 * outside / area_outside


def test_dataset_folder(tmp_path):
    counts = {"train": 2, "val": 1, "test": 0}
    folder = write_dataset(tmp_path / "data", counts, 0.3, 60, 80, seed=3, progress=False)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    stems = ["train/synthetic_train_000", "train/synthetic_train_001", "val/synthetic_val_000"]
    files = [f"{stem}_{end}" for stem in stems for end in ("bbox.npy", "td.dat")]
    assert names == ["label_map_dictionary.json", *files]
    assert json.loads((folder / names[0]).read_text()) == {"0": "pedestrian", "1": "car"}
    with open_events(folder / "val/synthetic_val_000_td.dat") as reader:
        assert (reader.height, reader.width) == (60, 80)
        events = reader.read()
    labels = load_labels(folder / "val/synthetic_val_000_bbox.npy")
    assert events["t"][0] < labels["t"][0] <= events["t"][-1]


def test_recording_depends_on_seed_split_and_number_alone(tmp_path):
    def write(name, counts, seed):
        folder = write_dataset(tmp_path / name, counts, 0.1, 48, 64, seed=seed, progress=False)
        return {path.name: path.read_bytes() for path in folder.rglob("*_td.dat")}

    few, more = write("few", {"train": 1}, 1), write("more", {"val": 1, "train": 2}, 1)
    assert strip(few["synthetic_train_000_td.dat"]) == strip(more["synthetic_train_000_td.dat"])
    contents = {strip(data) for data in [*more.values(), *write("other", {"train": 1}, 2).values()]}
    assert len(contents) == 4


def strip(data):
    """A DAT file without its header, which holds the date."""
    return b"\n".join(line for line in data.split(b"\n") if not line.startswith(b"%"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_recordings": {"training": 1}}, "num_recordings: got 'training', allowed: one of train, val, test"),
        ({"num_recordings": {"train": -1}}, "num_recordings of train: got -1"),
        ({"height": 20}, "height: got 20"),
        ({"width": 5000}, "width: got 5000"),
        ({"duration_s": 0}, "duration_s: got 0"),
        ({"label_period_us": 0}, "label_period_us: got 0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "data", **{"progress": False, **arguments})
    assert not (tmp_path / "data").exists()
