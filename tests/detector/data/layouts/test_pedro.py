import json

import h5py
import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data.builder.dataset import build_dataset
from detector.data.layouts import find_layout
from detector.data.layouts.pedro import PedroReader
from detector.labels import load_labels, read_labels

START = 1_672_932_172_785_744

BOX = (
    "<object><name>person</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def make_sample(folder, number, start, boxes=(), split="train", events=((0, 1, 2, 1), (40_000, 345, 259, 0))):
    for kind in ("numpy", "xml"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    rows = np.array(events, np.int64).reshape(-1, 4)
    np.save(folder / "numpy" / split / f"frame{number:07}.npy", rows + [start, 0, 0, 0])
    text = "".join(BOX.format(*box) for box in boxes)
    size = "<size><width>346</width><height>260</height><depth>1</depth></size>"
    path = folder / "xml" / split / f"frame{number:07}.xml"
    path.write_text(f"<annotation><folder>frame_tmp</folder>{size}{text}</annotation>")


def make_dataset(folder):
    """Two recordings: samples at the places 0, 1, 4, and, after 11 s, at 0. Samples start up to 3 us late."""
    make_sample(folder, 0, START, [(49, 103, 145, 260)])
    make_sample(folder, 1, START + 40_000, [(10, 20, 41, 62), (3, 5, 7, 11)])
    make_sample(folder, 2, START + 160_003, [])
    make_sample(folder, 3, START + 11_000_000, [(1, 2, 4, 6)])
    make_sample(folder, 0, START - 5_000_000, [(1, 2, 4, 6)], "val")


def test_streams_of_samples(tmp_path):
    make_dataset(tmp_path)
    found = find_layout("pedro").find(tmp_path)
    assert [(source.split, source.recording.name) for source in found] == [
        ("train", "frame0000000.npy"),
        ("train", "frame0000003.npy"),
        ("val", "frame0000000.npy"),
    ]
    assert found[1].labels == tmp_path / "xml" / "train" / "frame0000003.xml"
    assert found[0].sensor == (260, 346)


@pytest.mark.parametrize(("step", "streams"), [(40_000, 1), (1_000_000, 1), (1_040_000, 2), (-40_000, 2), (0, 2)])
def test_a_stream_ends_where_the_time_falls_or_more_than_a_second_is_missing(tmp_path, step, streams):
    make_sample(tmp_path, 5, START)
    make_sample(tmp_path, 9, START + step)
    assert len(find_layout("pedro").find(tmp_path)) == streams


def test_the_events_of_a_stream(tmp_path):
    make_dataset(tmp_path)
    with PedroReader(tmp_path / "numpy" / "train" / "frame0000000.npy") as reader:
        events = reader.read()
        assert (reader.height, reader.width, reader.faults.total) == (260, 346, 0)
        assert (reader.first_t, reader.last_t) == (0, 199_999)
        assert len(reader.read(40_000, 160_000)) == 2
    assert events["t"].tolist() == [0, 39_999, 40_000, 79_999, 160_000, 199_999]
    assert events[["x", "y", "p"]].tolist() == [(1, 2, 1), (345, 259, 0)] * 3


def test_many_events_in_few_samples(tmp_path):
    rng = np.random.default_rng(3)
    for number, count in enumerate((70_000, 0, 66_000, 1)):
        times = np.sort(rng.integers(0, 40_000, count))
        rows = np.stack([times, rng.integers(0, 346, count), rng.integers(0, 260, count), times % 2], 1)
        rows[:1, 0] = 0
        make_sample(tmp_path, number, START + 40_000 * number, events=rows)
    files = [np.load(tmp_path / "numpy" / "train" / f"frame{number:07}.npy") for number in range(4)]
    expected = np.concatenate(files)
    with PedroReader(tmp_path / "numpy" / "train" / "frame0000000.npy") as reader:
        x, y, p, t = reader.read_columns()
        assert np.array_equal(np.stack([t + START, x, y, p], 1), expected)
        part = reader.read(39_000, 90_000)
    assert np.array_equal(
        part["t"] + START, expected[(expected[:, 0] >= START + 39_000) & (expected[:, 0] < START + 90_000), 0]
    )


def test_the_labels_of_a_stream(tmp_path):
    make_dataset(tmp_path)
    content = read_labels(tmp_path / "xml" / "train" / "frame0000000.xml", "detector.data.layouts.pedro:LABELS")
    assert content.boxes.tolist() == [
        (40_000, 49, 103, 96, 157, 0),
        (80_000, 10, 20, 31, 42, 0),
        (80_000, 3, 5, 4, 6, 0),
    ]
    assert content.empty.tolist() == [200_000]


def test_another_class_and_a_damaged_sample_are_named(tmp_path):
    make_sample(tmp_path, 0, START)
    label = tmp_path / "xml" / "train" / "frame0000000.xml"
    label.write_text("<annotation><object><name>dog</name></object></annotation>")
    with pytest.raises(ValueError, match=r"class dog, expected: person"):
        read_labels(label, "detector.data.layouts.pedro:LABELS")
    sample = tmp_path / "numpy" / "train" / "frame0000000.npy"
    sample.write_bytes(sample.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"frame0000000\.npy: not a complete sample"):
        find_layout("pedro").find(tmp_path)


def test_a_build(tmp_path):
    make_dataset(tmp_path / "in")
    layout = find_layout("pedro")
    data = DataConfig(delta_t=40_000, height=260, width=346)
    output = build_dataset(
        layout.find(tmp_path / "in"), tmp_path / "out", data, None, dict(layout.names), progress=False
    )
    with h5py.File(output / "train" / "frame0000000.h5") as file:
        frames = file["data"][:]
    # a frame is a sample; the frames 2 and 3 are not part of the dataset
    assert frames.shape == (5, 2, 260, 346)
    assert np.argwhere(frames).tolist() == [[k, *at] for k in (0, 1, 4) for at in ((0, 259, 345), (1, 2, 1))]
    boxes = load_labels(output / "train" / "frame0000000_bbox.npy")
    assert json.loads((output / "label_map_dictionary.json").read_text()) == {"0": "person", "1": "empty"}
    assert boxes[["t", "x", "w", "class_id"]].tolist() == [
        (40_000, 49, 96, 0),
        (80_000, 10, 31, 0),
        (80_000, 3, 4, 0),
        (200_000, 0, 0, 1),  # a labelled sample without persons
    ]
    assert len(load_labels(output / "train" / "frame0000003_bbox.npy")) == 1
