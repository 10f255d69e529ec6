import h5py
import numpy as np

from detector.config.groups import DataConfig
from detector.data.builder.dataset import build_dataset
from detector.data.layouts import find_layout
from detector.data.layouts.dsec_det import SEQUENCES
from detector.labels import load_labels

START = 49_599_300_523
"""Time of the first event on the clock of the images in microseconds."""

TRACK = [
    ("t", "<u8"),
    ("x", "<f8"),
    ("y", "<f8"),
    ("h", "<f8"),
    ("w", "<f8"),
    ("class_id", "u1"),
    ("class_confidence", "<f8"),
    ("track_id", "<u8"),
]


def make_sequence(folder):
    (folder / "events" / "left").mkdir(parents=True)
    (folder / "object_detections" / "left").mkdir(parents=True)
    with h5py.File(folder / "events" / "left" / "events.h5", "w") as file:
        for name, values in (("x", (639, 2)), ("y", (0, 479)), ("p", (1, 0)), ("t", (0, 120_000))):
            file[f"events/{name}"] = np.array(values, "u4" if name == "t" else "u2")
        file["t_offset"] = np.int64(START)
        file["ms_to_idx"] = np.array([0] + [1] * 120, "u8")
    tracks = np.zeros(2, TRACK)
    tracks["t"], tracks["x"], tracks["y"] = START + 50_013, (10, 20), 5  # the second image, 536 us after a frame starts
    tracks["w"], tracks["h"] = (31, 32), (41, 42)
    tracks["class_id"], tracks["track_id"], tracks["class_confidence"] = (2, 0), (7, 9), 0.5
    np.save(folder / "object_detections" / "left" / "tracks.npy", tracks)


def test_the_published_split(tmp_path):
    for name in ("train/zurich_city_16_a", "train/thun_00_a", "test/thun_02_a", "train/interlaken_00_c"):
        make_sequence(tmp_path / name)
    (tmp_path / "test" / "thun_01_a" / "images").mkdir(parents=True)  # only the images were downloaded
    found = find_layout("dsec_det").find(tmp_path)
    assert {source.name: source.split for source in found} == {
        "interlaken_00_c": "train",
        "thun_00_a": "train",
        "zurich_city_16_a": "val",
        "thun_02_a": "test",
    }
    source = found[-1]
    assert source.recording == tmp_path / "test" / "thun_02_a" / "events" / "left" / "events.h5"
    assert source.labels == tmp_path / "test" / "thun_02_a" / "object_detections" / "left" / "tracks.npy"
    assert source.sensor == (480, 640)


def test_the_numbers_of_sequences():
    names = {split: text.split() for split, text in SEQUENCES.items()}
    assert {split: len(set(found)) for split, found in names.items()} == {"train": 41, "val": 6, "test": 13}
    assert len(set().union(*names.values())) == 60


def test_a_build_on_the_clock_of_the_images(tmp_path):
    make_sequence(tmp_path / "in" / "test" / "thun_01_b")
    layout = find_layout("dsec_det")
    data = DataConfig(delta_t=50_000, height=240, width=320)
    output = build_dataset(
        layout.find(tmp_path / "in"), tmp_path / "out", data, None, dict(layout.names), progress=False
    )
    with h5py.File(output / "test" / "thun_01_b.h5") as file:
        assert file["data"].attrs["first_t"] == START - 523
        # 523 + 120000 us are in the third frame
        assert np.argwhere(file["data"][:]).tolist() == [[0, 1, 0, 319], [2, 0, 239, 1]]
    boxes = load_labels(output / "test" / "thun_01_b_bbox.npy")
    # the labels are in the first frame, which ends 536 us before the image
    end = START - 523 + 50_000
    assert boxes["t"].tolist() == [START + 50_013 - 2_000] * 2
    assert START - 523 < boxes["t"][0] <= end == START + 50_013 - 536
    assert boxes[["x", "w", "h", "class_id", "track_id"]].tolist() == [(10, 31, 41, 2, 7), (20, 32, 42, 0, 9)]
