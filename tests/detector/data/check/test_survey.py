import h5py
import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data.check.inventory import find_data
from detector.data.check.survey import frame_labels, sample_frames, survey_file
from detector.events import BBOX_dtype, EventCD, write_dat, write_evt2
from detector.labels import save_labels

HEIGHT, WIDTH = 4, 8


def boxes_at(survey, time):
    boxes = frame_labels(survey)
    return boxes[boxes["t"] == time]


def write_labels(path, times):
    labels = np.zeros(len(times), BBOX_dtype)
    labels["t"] = times
    labels["w"], labels["h"] = 4, 2
    save_labels(path, labels)


def write_recording(path):
    """A pixel at 10 ms, the same one and another at 60 ms."""
    events = np.array([(1, 2, 1, 10_000), (1, 2, 1, 60_000), (3, 3, 0, 60_000)], EventCD)
    (write_evt2 if path.suffix == ".raw" else write_dat)(path, events, HEIGHT, WIDTH)


def write_tensors(path, **attributes):
    """Frame k has k active pixels."""
    frames = np.zeros((4, 2, HEIGHT // 2, WIDTH // 2), np.uint8)
    for index in range(4):
        frames[index, index % 2].flat[:index] = 3
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=frames).attrs.update(attributes)


@pytest.mark.parametrize(("name", "kind"), [("a_td.dat", "DAT"), ("a.raw", "EVT2")])
def test_a_recording(tmp_path, name, kind):
    write_recording(tmp_path / name)
    write_labels(tmp_path / "a_bbox.npy", [50_000])
    (file,) = find_data(tmp_path / name)
    found = survey_file(file, DataConfig(), {})
    assert (found.format, found.sensor_size, found.network_size) == (kind, (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    assert (found.span, found.seconds, found.num_frames) == ((10_000, 60_000), 0.05, 2)
    assert found.sample_times.tolist() == [50_000, 100_000]
    assert found.active.tolist() == [1 / 32, 2 / 32]
    assert found.edges == (0, 0)
    assert found.labels.sizes.tolist() == [[4, 2]]
    assert boxes_at(found, 50_000)["w"].tolist() == [4]
    assert boxes_at(found, 50_001).size == 0
    halved = survey_file(file, DataConfig(height=2, width=4), {})
    assert (halved.network_size, halved.labels.sizes.tolist()) == ((2, 4), [[2, 1]])
    assert boxes_at(halved, 50_000)["w"].tolist() == [4]  # pictures have the sensor's pixels


def test_a_recording_without_labels_or_events(tmp_path):
    write_dat(tmp_path / "a.dat", np.empty(0, EventCD), HEIGHT, WIDTH)
    found = survey_file(find_data(tmp_path)[0], DataConfig(), {})
    assert (found.labels, found.events.num_events, found.active.size, found.seconds) == (None, 0, 0, 0)


def test_tensors(tmp_path):
    attributes = {"delta_t": 20_000, "first_t": 40_000, "event_input_height": HEIGHT, "event_input_width": WIDTH}
    write_tensors(tmp_path / "a.h5", **attributes)
    write_labels(tmp_path / "a_bbox.npy", [60_000, 100_000])
    parts = []
    found = survey_file(find_data(tmp_path)[0], DataConfig(), {}, parts.append)
    assert parts == [1]
    assert (found.format, found.sensor_size, found.network_size) == ("tensors", (HEIGHT, WIDTH), (2, 4))
    assert (found.span, found.delta_t, found.num_frames) == ((40_000, 120_000), 20_000, 4)
    assert found.sample_times.tolist() == [60_000, 80_000, 100_000, 120_000]
    assert found.active.tolist() == [0, 1 / 8, 2 / 8, 3 / 8]
    assert found.labels.sizes.tolist() == [[2, 1], [2, 1]]
    assert boxes_at(found, 100_000)["w"].tolist() == [2]


def test_tensors_that_tell_nothing(tmp_path):
    write_tensors(tmp_path / "a.h5")
    found = survey_file(find_data(tmp_path)[0], DataConfig(delta_t=30_000), {})
    assert (found.span, found.delta_t, found.sensor_size) == ((0, 120_000), 30_000, (2, 4))


def test_frames_are_those_of_their_labels(tmp_path):
    write_tensors(tmp_path / "a.h5", delta_t=20_000, first_t=40_000)
    (file,) = find_data(tmp_path)
    # A frame holds the labels after its start, up to its end.
    frames = sample_frames(file, [40_000, 60_000, 60_001, 80_000, 10**9], 20_000)
    assert [int(np.count_nonzero(frame)) for frame in frames] == [0, 0, 1, 1, 3]
    write_recording(tmp_path / "b.raw")
    (frame,) = sample_frames(find_data(tmp_path / "b.raw")[0], [60_001])
    assert np.argwhere(frame).tolist() == [[0, 3, 3], [1, 2, 1]]


def test_what_a_folder_holds(tmp_path):
    for name in ("train/a.h5", "val/b_td.dat", "val/c.raw", "test/notes.txt", "test/.d.raw"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (write_tensors if name.endswith("h5") else write_recording)(tmp_path / name)
    write_labels(tmp_path / "val" / "c_bbox.npy", [1])
    files = find_data(tmp_path)
    assert [(file.path.name, file.split, file.is_tensor, file.labels_path.name) for file in files] == [
        ("a.h5", "train", True, "a_bbox.npy"),
        ("b_td.dat", "val", False, "b_bbox.npy"),
        ("c.raw", "val", False, "c_bbox.npy"),
    ]
