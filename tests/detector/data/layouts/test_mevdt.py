import h5py
import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data.builder.dataset import build_dataset
from detector.data.layouts import find_layout
from detector.data.layouts.mevdt import read_events
from detector.labels import load_labels, read_labels

START = 1_581_956_365_600_000
"""Time of the first event in microseconds since 1970, a multiple of 40 ms. Files contain nanoseconds."""


def make_sequence(folder, split="train", scene="Scene_A", start=START, header="timestamp,x,y,polarity\n"):
    name = str(start * 1000)
    events, labels = (
        folder / "sequences" / split / scene / name,
        folder / "labels" / "tracking_labels" / split / scene / name,
    )
    events.mkdir(parents=True)
    labels.mkdir(parents=True)
    rows = [(start, 239, 0, 1), (start + 90_000, 3, 179, 0)]
    lines = [f"{t * 1000},{x},{y},{p}\n" for t, x, y, p in rows]
    (events / f"{name}_events.csv").write_text(header + "".join(lines))
    (labels / f"{name}-custom24.txt").write_text(
        f"0, {start * 1000}\n1, {(start + 40_000) * 1000}, 4, 10.5, 20, 31, 42.25, 6, 50, 60, 7, 8\n"
    )
    (labels / f"{name}-custom48.txt").write_text("")
    return events / f"{name}_events.csv", labels / f"{name}-custom24.txt"


def test_scenes_and_splits(tmp_path):
    first = make_sequence(tmp_path)
    make_sequence(tmp_path, "train", "Scene_B", START + 1)
    make_sequence(tmp_path, "test", "Scene_B", START + 2)
    found = find_layout("mevdt").find(tmp_path)
    assert [(source.split, source.name) for source in found] == [
        ("train", f"Scene_A_{START}000"),
        ("val", f"Scene_B_{START + 1}000"),
        ("test", f"Scene_B_{START + 2}000"),
    ]
    assert (found[0].recording, found[0].labels) == first
    assert found[0].sensor == (180, 240)


@pytest.mark.parametrize("header", ["", "timestamp,x,y,polarity\n"])
def test_events_and_labels_are_on_one_clock(tmp_path, header):
    events, labels = make_sequence(tmp_path, header=header)
    with read_events(events, 180, 240) as reader:
        assert reader.read()[["x", "y", "p", "t"]].tolist() == [(239, 0, 1, START), (3, 179, 0, START + 90_000)]
    content = read_labels(labels, "detector.data.layouts.mevdt:LABELS")
    assert content.empty.tolist() == [START]
    assert content.boxes.tolist() == [
        (START + 40_000, 10.5, 20, 31, 42.25, 0, 4),
        (START + 40_000, 50, 60, 7, 8, 0, 6),
    ]


def test_damaged_files_are_named(tmp_path):
    events, labels = make_sequence(tmp_path)
    labels.write_text("1, 5, 4, 10.5, 20, 31\n")
    with pytest.raises(ValueError, match="line 1: 6 entries, expected: image, time, and 5 for each vehicle"):
        read_labels(labels, "detector.data.layouts.mevdt:LABELS")
    events.write_text("1,2,3\n4,5\n")
    with pytest.raises(ValueError, match=r"_events\.csv: not a table of time, x, y, polarity"):
        read_events(events, 180, 240)


def test_a_build(tmp_path):
    make_sequence(tmp_path / "in", "test")
    layout = find_layout("mevdt")
    data = DataConfig(delta_t=40_000, height=180, width=240)
    output = build_dataset(
        layout.find(tmp_path / "in"), tmp_path / "out", data, None, dict(layout.names), progress=False
    )
    with h5py.File(output / "test" / f"Scene_A_{START}000.h5") as file:
        assert file["data"].attrs["first_t"] == START
        assert np.argwhere(file["data"][:]).tolist() == [[0, 1, 0, 239], [2, 0, 179, 3]]
    boxes = load_labels(output / "test" / f"Scene_A_{START}000_bbox.npy")
    assert boxes[["t", "x", "w", "track_id"]].tolist() == [(START + 40_000, 10.5, 31, 4), (START + 40_000, 50, 7, 6)]
