import h5py
import numpy as np

from detector.config.groups import DataConfig
from detector.data.builder.dataset import build_dataset
from detector.data.layouts import find_layout
from detector.data.layouts.fred import TEST
from detector.events import EventCD, write_evt3, write_hdf5
from detector.labels import load_labels


def make_sequence(folder, write=write_hdf5, name="events.hdf5"):
    (folder / "Event").mkdir(parents=True)
    events = np.zeros(2, EventCD)
    events["t"], events["x"], events["y"], events["p"] = (5, 70_000), (1279, 4), (719, 6), (1, 0)
    write(folder / "Event" / name, events, 720, 1280)
    lines = [
        "0.033333: 490.0, 413.0, 539.0, 448.0, 1, DJI Mini 2",
        "0.099999: 10.0, 20.0, 31.0, 42.0, 2, Betafpv air75",
    ]
    (folder / "coordinates.txt").write_text("\n".join(lines) + "\n")
    (folder / "coordinates_rgb.txt").write_text("0.033333: 1.0, 1.0, 2.0, 2.0, 1, DJI Mini 2\n")


def test_the_folders_of_the_splits_decide(tmp_path):
    for number in (0, 2, 10):
        make_sequence(tmp_path / "train" / str(number))
    make_sequence(tmp_path / "test" / "1")
    found = find_layout("fred").find(tmp_path)
    # the last training sequence is the validation split
    assert [(source.name, source.split) for source in found] == [
        ("0", "train"),
        ("2", "train"),
        ("10", "val"),
        ("1", "test"),
    ]
    source = found[0]
    assert source.recording == tmp_path / "train" / "0" / "Event" / "events.hdf5"
    assert source.labels == tmp_path / "train" / "0" / "coordinates.txt"
    assert (source.timing.time_unit, source.sensor) == ("s", (720, 1280))


def test_sequences_without_folders_of_splits_use_the_canonical_split(tmp_path):
    for number in (7, 8, 230):
        make_sequence(tmp_path / str(number), write_evt3, "events.raw")
    found = find_layout("fred").find(tmp_path)
    assert {source.name: source.split for source in found} == {"7": "train", "8": "test", "230": "test"}
    assert found[0].recording.name == "events.raw"


def test_the_canonical_test_split_has_47_of_231_sequences():
    numbers = [int(number) for number in TEST.split()]
    assert len(set(numbers)) == 47
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (8, 230)


def test_a_build(tmp_path):
    make_sequence(tmp_path / "in" / "test" / "100")
    layout = find_layout("fred")
    data = DataConfig(delta_t=33_333, height=360, width=640)
    output = build_dataset(
        layout.find(tmp_path / "in"), tmp_path / "out", data, None, dict(layout.names), progress=False
    )
    with h5py.File(output / "test" / "100.h5") as file:
        assert np.argwhere(file["data"][:]).tolist() == [[0, 1, 359, 639], [2, 0, 3, 2]]
    boxes = load_labels(output / "test" / "100_bbox.npy")
    # label k is at the end of frame k; all models of drones are one class
    assert boxes[["t", "x", "y", "w", "h", "class_id", "track_id"]].tolist() == [
        (33_333, 490, 413, 49, 35, 0, 1),
        (99_999, 10, 20, 21, 22, 0, 2),
    ]
