"""The check of recordings whose labels have image numbers: COCO files."""

import json
from pathlib import Path

import numpy as np
import pytest

from detector.data.check.dataset import check_dataset, one_factor
from detector.data.check.finding import Finding
from detector.events import write_dat
from detector.labels import LabelTiming, save_labels

HEIGHT, WIDTH = 80, 120


def write_coco(path, labels, num_images, categories=({"id": 0, "name": "block"},)):
    """Write labels at 10 Hz with the numbers of their images, of which image 2 is the first one."""
    images = [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(2, num_images)]
    boxes = [
        {"id": row, "image_id": int(box["t"]) // 100_000, "category_id": 0, "bbox": [float(box[n]) for n in "xywh"]}
        | {"attributes": {"track_id": int(box["track_id"])}}
        for row, box in enumerate(labels)
    ]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": list(categories)}))


@pytest.fixture
def recording(scene, tmp_path):
    """A recording of 12 s and its labels at 10 Hz as a COCO file."""
    events, labels = scene
    write_dat(tmp_path / "a_td.dat", events, HEIGHT, WIDTH)
    write_coco(tmp_path / "a.json", labels, 120)
    return tmp_path


def test_nothing_is_found_at_the_right_rate(recording):
    """The file names its class, so that no label map is needed."""
    checked = check_dataset(recording, timing=LabelTiming(fps=10))
    assert (checked.findings, checked.num_unknown) == ([], 0)
    assert checked.labels[0][:2] == (recording / "a.json", "coco")


@pytest.mark.parametrize("fps", [8, 12, 25])
def test_a_wrong_rate_is_found_with_its_remedy(recording, fps):
    """At 8 Hz, some labels are also after the end. This finding gets the same cause."""
    findings = [
        each for each in check_dataset(recording, timing=LabelTiming(fps=fps)).findings if each.severity == "error"
    ]
    assert "label times scaled" in [finding.kind for finding in findings]
    assert {finding.cause for finding in findings} == {f"give `build` --label_fps 10 instead of {fps}"}
    assert len(findings) == (2 if fps == 8 else 1)


def test_images_of_another_duration_are_a_warning_without_motion(recording, scene):
    """Boxes that are far from the objects do not show at which time they fit."""
    labels = scene[1]
    labels["x"], labels["y"], labels["w"] = 100, 60 + np.arange(labels.size) % 10, 4
    write_coco(recording / "a.json", labels, 120)
    timing = LabelTiming(fps=25)
    found = {finding.kind: finding for finding in check_dataset(recording, timing=timing).findings}
    warning = found["images cover another time"]
    assert (warning.severity, warning.path) == ("warning", recording / "a.json")
    assert warning.found == "120 images at 25 per second cover 4.8 s of a recording of 12.0 s"
    assert warning.cause == "is --label_fps right?"
    kinds = [finding.kind for finding in check_dataset(recording, timing=LabelTiming(fps=10)).findings]
    assert "images cover another time" not in kinds


def test_a_label_map_is_missed_only_if_the_labels_name_no_classes(recording, scene):
    (recording / "a.json").unlink()
    save_labels(recording / "a_bbox.npy", scene[1])
    assert [finding.kind for finding in check_dataset(recording).findings] == ["no label map"]


def test_files_whose_labels_cannot_be_compared_are_counted(recording, scene):
    for name in "bc":
        write_dat(recording / f"{name}_td.dat", scene[0][:20000], HEIGHT, WIDTH)
    write_coco(recording / "b.json", scene[1][:3], 5)
    checked = check_dataset(recording, timing=LabelTiming(fps=10))
    assert checked.num_unknown == 1  # c has no labels
    assert [found.path.name for found in checked.labels] == ["a.json", "b.json"]
    boxes = scene[1][:3]
    boxes["x"] = 500
    write_coco(recording / "b.json", boxes, 5)
    assert check_dataset(recording, timing=LabelTiming(fps=10)).num_unknown == 0  # b has an error
    labels = scene[1]
    labels["t"] = 12_100_000 - labels["t"]
    write_coco(recording / "a.json", labels, 120)
    checked = check_dataset(recording, timing=LabelTiming(fps=10))
    assert "labels without events" in [finding.kind for finding in checked.findings]
    assert checked.num_unknown == 0


@pytest.mark.parametrize("fps", [20, 30])
def test_a_wrong_rate_is_found_without_track_ids(recording, scene, fps):
    """The labels then cover 4 to 6 s."""
    labels = scene[1]
    labels["track_id"] = 0
    write_coco(recording / "a.json", labels, 120)
    found = {each.kind: each for each in check_dataset(recording, timing=LabelTiming(fps=fps)).findings}
    assert found["label times scaled"].cause == f"give `build` --label_fps 10 instead of {fps}"


def test_offsets_of_parts_of_a_recording_with_scaled_times():
    def finding(name, kind, cause):
        return Finding("error", Path(name), kind, "found", "allowed", cause)

    given = [
        finding("train", "label times scaled", "give 10"),
        finding("val", "labels shifted in time", "give 2030000"),
        finding("val", "box twice", "remove it"),
        finding("other", "labels shifted in time", "give 500000"),
        finding("old", "labels shifted in time", "give 600000"),
    ]
    sources = {Path("train"): "a", Path("val"): "a", Path("other"): "b", Path("old"): None}
    cause = "not a constant offset, but the scaled times of train: give 10"
    causes = ["give 10", cause, "remove it", "give 500000", "give 600000"]
    assert [each.cause for each in one_factor(given, sources)] == causes
    assert one_factor(given, {}) == given
