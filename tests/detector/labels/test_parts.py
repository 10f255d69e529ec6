"""Parts of an export of labels that are not used are named."""

import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels import LabelTiming, recording_labels, save_labels
from detector.labels.parts import unused_parts

YOLO = "0 0.5 0.25 0.125 0.0625\n"


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


@pytest.mark.parametrize(
    ("given", "others", "unrelated"),
    [
        ("train/labels", ["test/labels", "valid/labels"], ["valid/images/1.png", "street.raw", "training.yaml"]),
        ("obj_train_data", ["obj_valid_data"], ["valid/1.txt", "street.raw", "obj_test_data.yaml"]),
        ("labels/train", ["labels/val"], ["labels/classes.txt"]),
        ("train/_annotations.coco.json", ["valid/_annotations.coco.json"], ["test/other.json", "street.raw"]),
        ("annotations/instances_train.json", ["annotations/instances_val.json"], ["annotations/captions_val.json"]),
    ],
)
def test_parts_of_an_export(tmp_path, given, others, unrelated):
    is_file = given.endswith(".json")
    touch(tmp_path, *unrelated, *(name if is_file else f"{name}/000001.txt" for name in (given, *others)))
    assert unused_parts(tmp_path / given) == [tmp_path / name for name in others]


def test_labels_of_other_recordings_are_no_parts(tmp_path):
    touch(tmp_path, "train/labels/1.txt", "val/labels/1.txt", "train/a_labels/1.txt", "val/a_labels/1.txt")
    assert len(unused_parts(tmp_path / "train/labels")) == 1
    assert unused_parts(tmp_path / "train/labels", tmp_path / "train/a.csv") == []
    assert len(unused_parts(tmp_path / "train/labels", tmp_path / "a.csv")) == 1
    touch(tmp_path, "train/a.raw")
    assert unused_parts(tmp_path / "train/labels") == []
    assert unused_parts(tmp_path / "train/a_labels") == []
    touch(tmp_path, "in/train.raw", "in/test_td.dat", "in/train_labels/1.txt", "in/test_labels/1.txt")
    assert unused_parts(tmp_path / "in/train_labels") == []
    assert unused_parts(tmp_path / "in/nothing") == []


def test_notes_name_the_parts(tmp_path):
    for name in ("train", "valid"):
        touch(tmp_path, f"{name}/labels/000001.txt")
        (tmp_path / name / "labels" / "000001.txt").write_text(YOLO)
    reader = _Recording(tmp_path / "street.raw")
    notes = recording_labels(tmp_path / "train/labels", "yolo", reader, LabelTiming(fps=10)).notes
    assert notes[0] == (
        f"other parts of this export are not used: valid/labels; to use all, move their files into "
        f"{tmp_path / 'train/labels'}"
    )
    for split in ("train", "val"):  # the label files of a dataset folder
        (tmp_path / split).mkdir(exist_ok=True)
        save_labels(tmp_path / split / "a_bbox.npy", np.zeros(1, BBOX_dtype))
    assert recording_labels(tmp_path / "train/a_bbox.npy").notes == ()


class _Recording:
    """A recording of 16 x 32 pixels."""

    height, width, first_t = 32, 16, 0

    def __init__(self, path):
        self.path = path

    def frame_times(self):
        return np.zeros(0, np.int64)
