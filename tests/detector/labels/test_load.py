"""Labels of a recording: sensor pixels, class ids of the label map, images without boxes."""

from types import SimpleNamespace

import numpy as np
import pytest

from detector.config.label_timing import LabelTiming
from detector.labels import load_labels, read_labels, recording_labels
from detector.labels.label_format import LabelFile
from detector.labels.load import add_empty, join_names

FORMAT = """
import numpy as np
from detector.labels import LabelFile, LabelFormat

BOXES = np.zeros(3, [(name, "f8") for name in ("t", "x", "y", "w", "h", "class_id")])
BOXES["t"], BOXES["x"], BOXES["y"] = [4, 2, 2], [0.5, 0.25, 0.125], [0.5, 0.75, 0.25]
BOXES["w"], BOXES["h"], BOXES["class_id"] = [0.125, 0.25, 0.5], [0.25, 0.125, 0.0625], [9, 5, 9]
PIXELS = BOXES.copy()
for name in "xywh":
    PIXELS[name] *= 64
NAMES = {5: "car", 9: "bus"}
RELATIVE = LabelFormat("_r.txt", lambda path: LabelFile(BOXES, NAMES, (1, 1), np.array([3, 7]), True, notes=("seen",)))
LARGE = LabelFormat("_l.txt", lambda path: LabelFile(PIXELS, NAMES, (64, 64)))
PLAIN = LabelFormat("_p.txt", lambda path: PIXELS)
"""

RECORDING = SimpleNamespace(height=32, width=16, first_t=0, path=None, frame_times=lambda: np.zeros(0, np.int64))
SQUARE = SimpleNamespace(height=128, width=128, first_t=0, path=None, frame_times=lambda: np.zeros(0, np.int64))
FPS = LabelTiming(fps=10)
FEW = np.zeros(1, [(name, "f8") for name in ("t", "x", "y", "w", "h", "class_id")])


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"load_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FORMAT)
    (tmp_path / "a.txt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_boxes_relative_to_the_image(tmp_path, module):
    boxes, notes = recording_labels(tmp_path / "a.txt", f"{module}:RELATIVE", RECORDING, FPS)
    assert boxes["t"].tolist() == [200_000, 200_000, 400_000]
    assert boxes["x"].tolist() == [4, 2, 8]
    assert boxes["y"].tolist() == [24, 8, 16]
    assert boxes["w"].tolist() == [4, 8, 2]
    assert boxes["h"].tolist() == [4, 2, 8]
    assert boxes["class_id"].tolist() == [5, 9, 9]
    assert boxes["class_confidence"].tolist() == [1, 1, 1]
    assert notes[0] == "seen"
    assert notes[1].startswith("image 0 is at 0 us, 10 images per second; the numbers 2 to 7 leave open whether images")
    assert notes[1].endswith("if not from 0, give --label_first_image 1")
    with pytest.raises(ValueError, match="the boxes are relative to the image size, needed: the recording"):
        recording_labels(tmp_path / "a.txt", f"{module}:RELATIVE", None, FPS)


def test_classes_are_found_by_name_and_images_without_boxes_become_class_empty(tmp_path, module):
    names = {0: "bus", 1: "bike", 2: "empty"}
    boxes = recording_labels(tmp_path / "a.txt", f"{module}:RELATIVE", RECORDING, FPS, names).boxes
    assert boxes["t"].tolist() == [200_000, 200_000, 300_000, 400_000, 700_000]
    assert boxes["class_id"].tolist() == [3, 0, 2, 0, 2]  # car is not in the label map, and neither is the id 3
    assert boxes["w"].tolist() == [4, 8, 0, 2, 0]
    gaps = recording_labels(tmp_path / "a.txt", f"{module}:RELATIVE", RECORDING, FPS, {7: "car", 2: "bike"}).boxes
    assert gaps["class_id"].tolist() == [7, 9, 9]  # bus is the second class of the file, 8 + 1
    without = recording_labels(tmp_path / "a.txt", f"{module}:RELATIVE", RECORDING, FPS, {0: "bus"}).boxes
    assert without["t"].tolist() == [200_000, 200_000, 400_000]


def test_boxes_of_images_of_another_size(tmp_path, module):
    boxes, notes = recording_labels(tmp_path / "a.txt", f"{module}:LARGE", SQUARE)
    assert boxes["x"].tolist() == [32, 16, 64]
    assert boxes["h"].tolist() == [16, 8, 32]
    assert notes == ("boxes scaled from 64 x 64 to 128 x 128 pixels",)
    with pytest.raises(ValueError, match="labels of images of 64 x 64 pixels, the sensor has 16 x 32, allowed"):
        recording_labels(tmp_path / "a.txt", f"{module}:LARGE", RECORDING)
    unknown = recording_labels(tmp_path / "a.txt", f"{module}:LARGE").boxes
    assert unknown["x"].tolist() == [16, 8, 32]


def test_a_format_without_names_keeps_its_class_ids(tmp_path, module):
    assert load_labels(tmp_path / "a.txt", offset=5, label_format=f"{module}:PLAIN")["t"].tolist() == [7, 7, 9]
    found = recording_labels(tmp_path / "a.txt", f"{module}:PLAIN", names={0: "bus"}).boxes
    assert found["class_id"].tolist() == [5, 9, 9]
    assert read_labels(tmp_path / "a.txt", f"{module}:PLAIN").names == {}


@pytest.mark.parametrize(
    ("names", "empty", "wanted"),
    [
        ([{1: "car", 4: "bus"}, {1: "car"}], [0, 0], {1: "car", 4: "bus"}),
        ([{0: "car"}, {0: "bus"}], [0, 0], {0: "bus", 1: "car"}),  # the files disagree: alphabetical order
        ([{0: "car"}, {1: "car"}], [0, 0], {0: "car"}),
        ([{2: "car"}, {}], [0, 3], {2: "car", 3: "empty"}),
        ([{}, {}], [0, 3], {}),
    ],
)
def test_label_map_of_several_files(names, empty, wanted):
    files = [LabelFile(np.zeros(0), pair, empty=np.zeros(number)) for pair, number in zip(names, empty, strict=True)]
    assert join_names(files) == wanted


def test_the_class_empty_is_added_once():
    file = LabelFile(np.zeros(0), empty=np.zeros(1))
    assert add_empty({3: "car"}, [file]) == {3: "car", 4: "empty"}
    assert add_empty({0: "empty", 3: "car"}, [file]) == {0: "empty", 3: "car"}
    assert add_empty({3: "car"}, [LabelFile(np.zeros(0))]) == {3: "car"}


def test_the_id_of_the_class_empty_is_not_that_of_a_box():
    boxes = np.zeros(2, [(name, "f8") for name in ("t", "x", "y", "w", "h", "class_id")])
    boxes["class_id"] = [1, 4]
    file = LabelFile(boxes, empty=np.zeros(1))
    assert add_empty({0: "car"}, [file]) == {0: "car", 5: "empty"}
    assert add_empty({}, [file]) == {5: "empty"}
    assert add_empty({}, [LabelFile(boxes, {4: "car"}, empty=np.zeros(1))]) == {0: "empty"}  # `names` has its classes
    assert add_empty({}, [LabelFile(boxes[:0], empty=np.zeros(1))]) == {0: "empty"}
    boxes["class_id"] = 2**31 - 1
    assert add_empty({}, [file]) == {2**31: "empty"}
    for largest in (2**31, np.inf):
        boxes["class_id"] = largest
        assert add_empty({}, [file]) == {0: "empty"}


def test_classes_that_are_not_in_the_label_map_are_named(tmp_path, module):
    with pytest.raises(ValueError, match="a.txt: the classes are car, bus, allowed by the label map: bike, empty"):
        recording_labels(tmp_path / "a.txt", f"{module}:RELATIVE", RECORDING, FPS, {0: "bike", 1: "empty"})
    notes = recording_labels(tmp_path / "a.txt", f"{module}:RELATIVE", RECORDING, FPS, {0: "bus"}).notes
    assert notes[2:] == (
        "classes that are not in the label map: car",
        '2 images without boxes are not used: the label map has no class "empty"',
    )


def test_impossible_sizes_of_images(tmp_path, module, monkeypatch):
    monkeypatch.setattr("detector.labels.load.read_labels", lambda *_: LabelFile(FEW, image_size=(10**400, 5)))
    with pytest.raises(ValueError, match="a.txt: images of 5 x 1000.* pixels, allowed: 1 to 65536"):
        recording_labels(tmp_path / "a.txt", "npy", RECORDING)
