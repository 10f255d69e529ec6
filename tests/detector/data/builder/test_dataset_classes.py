import numpy as np
import pytest
from small_recordings import NAMES, make_labels, make_recording

from detector.data.builder.dataset_classes import find_label_map
from detector.data.builder.source import Source
from detector.labels import save_labels


def recording_with(folder, name, text):
    """A recording of which the labels are a text file."""
    recording = make_recording(folder, "street.raw")
    (folder / "street_bbox.npy").unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return Source(recording)


def refusal(sources, output, error, given=None):
    with pytest.raises(error) as caught:
        find_label_map(sources, output, given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("street.json", '{"images": [{"id": 1, "file_name"', "street.json: not a complete label file of format coco"),
        (
            "street_bbox.csv",
            "100,1,2,3,4,0\n200,1,2,3,4,0\n",
            "street_bbox.csv: not a complete label file of",
        ),
        ("street_labels/0001.txt", "0 120.5 99.0 20 40\n", "got 120.5, which looks like pixels"),
    ],
)
def test_damaged_labels_are_the_reason_not_the_missing_label_map(tmp_path, name, text, message):
    source = recording_with(tmp_path / "in", name, text)
    assert message in refusal([source], tmp_path / "out", ValueError)
    assert find_label_map([source], tmp_path / "out", NAMES) == NAMES  # the error of the labels follows later


def test_damaged_labels_among_sound_ones_are_left_to_the_build_of_their_recording(tmp_path):
    """The build may skip them."""
    damaged = recording_with(tmp_path / "a", "street_bbox.csv", "100,1,2,3,4,0\n200,1,2,3,4,0\n")
    unnamed = Source(make_recording(tmp_path / "b", "road.raw"))
    named = recording_with(tmp_path / "c", "street_bbox.csv", "t,x,y,w,h,class_id,class_name\n2000000,1,2,3,4,1,bus\n")
    assert "road.raw: no label_map" in refusal([damaged, unnamed], tmp_path / "out", FileNotFoundError)
    assert find_label_map([damaged, named], tmp_path / "out", None) == {1: "bus"}
    (tmp_path / "b" / "label_map_dictionary.json").write_text('{"3": "car"}')
    assert find_label_map([damaged, unnamed], tmp_path / "out", None) == {3: "car"}
    message = refusal([named, unnamed], tmp_path / "out", FileNotFoundError)
    assert "street.raw: no label_map_dictionary.json beside it or one folder above, but other recordings" in message


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([3], """do not name classes (class ids: 3); give --label_map '{"3": "pedestrian"}' with the names"""),
        ([2, 1, 2], """(class ids: 1, 2); give --label_map '{"1": "pedestrian", "2": "car"}' with"""),
        (
            range(5, 17),
            """(class ids: 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, ...); give --label_map '{"5": "pedestrian", """
            """"6": "car", ...}' with""",
        ),
        (
            range(5, 15),
            """(class ids: 5, 6, 7, 8, 9, 10, 11, 12, 13, 14); give --label_map '{"5": "pedestrian", """
            """"6": "car", ...}' with""",
        ),
        ([], """do not name classes; give --label_map '{"0": "pedestrian"}' with the names of your classes"""),
    ],
)
def test_without_names_the_ids_of_the_labels_are_listed(tmp_path, ids, expected):
    recording = make_recording(tmp_path / "a" / "train")
    labels = make_labels([2_000_000] * len(ids))
    labels["class_id"] = list(ids)
    save_labels(recording.with_name("street_bbox.npy"), labels)
    assert expected in refusal([Source(recording)], tmp_path / "out", FileNotFoundError)


def test_labels_without_class_ids(tmp_path):
    recording = make_recording(tmp_path / "a" / "train")
    np.save(recording.with_name("street_bbox.npy"), np.zeros(1, [("t", "<i8")]))
    assert "do not name classes; give" in refusal([Source(recording)], tmp_path / "out", FileNotFoundError)


def test_missing_recordings_and_missing_labels(tmp_path):
    missing = Source(tmp_path / "none.raw")
    assert "none.raw: no such recording" in refusal([missing], tmp_path / "out", FileNotFoundError)
    recording = make_recording(tmp_path / "a" / "train")
    recording.with_name("street_bbox.npy").unlink()
    assert "the recording has no labels beside it" in refusal([Source(recording)], tmp_path / "out", FileNotFoundError)
