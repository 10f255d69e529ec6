"""Faults that the comparison of events and labels finds, on whole files."""

import json

import h5py
import numpy as np
import pytest

from detector.data.check.dataset import MAX_EVIDENCE, check_dataset
from detector.events import write_dat, write_evt2
from detector.labels import save_labels

HEIGHT, WIDTH, DELTA_T = 80, 120, 50_000


def write(folder, events, labels, name="a", writer=write_dat, end="_td.dat"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "label_map_dictionary.json").write_text(json.dumps({"0": "car"}))
    writer(folder / f"{name}{end}", events, HEIGHT, WIDTH)
    save_labels(folder / f"{name}_bbox.npy", labels)


def write_frames(folder, events, labels, name="a", **attributes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "label_map_dictionary.json").write_text(json.dumps({"0": "car"}))
    frames = np.zeros((12_000_000 // DELTA_T, 2, HEIGHT, WIDTH), np.uint8)
    np.add.at(frames, (events["t"] // DELTA_T, events["p"], events["y"], events["x"]), 1)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        data = file.create_dataset("data", data=frames, chunks=(1, 2, HEIGHT, WIDTH), compression="gzip")
        data.attrs.update({"preprocess": "histo", "delta_t": DELTA_T, "first_t": 0, **attributes})
    save_labels(folder / f"{name}_bbox.npy", labels)


def kinds(*paths):
    return [(finding.severity, finding.kind) for finding in check_dataset(*paths).findings]


@pytest.mark.parametrize("store", [write, write_frames])
def test_labels_and_events_that_do_not_fit(scene, tmp_path, store):
    events, labels = scene
    store(tmp_path / "sound", events, labels)
    assert kinds(tmp_path / "sound") == []
    late = labels[labels["t"] < 11_500_000].copy()
    late["t"] += 300_000
    store(tmp_path / "late", events, late)
    assert kinds(tmp_path / "late") == [("error", "labels shifted in time")]
    mirrored = labels.copy()
    mirrored["y"] = HEIGHT - labels["y"] - labels["h"]
    store(tmp_path / "mirrored", events, mirrored)
    assert kinds(tmp_path / "mirrored") == [("error", "boxes in another layout")]
    still = labels.copy()
    for name in ("x", "y", "w", "h"):
        still[name] = 20
    still["track_id"] = np.arange(still.size) % 3
    store(tmp_path / "still", events, still[::3])
    assert kinds(tmp_path / "still") == [("warning", "all boxes stand still")]


def test_a_box_that_stands_still_does_not_hide_an_offset(scene, tmp_path):
    events, labels = scene
    late = labels[labels["t"] < 11_500_000].copy()
    parked = late[late["track_id"] == 1].copy()
    late["t"] += 300_000
    for name, value in (("x", 95), ("y", 60), ("w", 20), ("h", 15), ("track_id", 9)):
        parked[name] = value
    both = np.concatenate([late, parked])
    write(tmp_path, events, both[np.argsort(both["t"], kind="stable")])
    assert kinds(tmp_path) == [("error", "labels shifted in time")]


def test_labels_in_another_format(scene, tmp_path):
    events, labels = scene
    write(tmp_path, events, labels)
    (tmp_path / "a_bbox.npy").unlink()
    rows = labels[labels["t"] < 11_500_000]
    boxes = [
        {"id": index, "image_id": int(row["t"]), "category_id": 0, "bbox": [float(row[name]) for name in "xywh"]}
        for index, row in enumerate(rows)
    ]
    images = [
        {"id": int(t), "timestamp_us": int(t) + 400_000, "width": WIDTH, "height": HEIGHT} for t in np.unique(rows["t"])
    ]
    categories = [{"id": 0, "name": "car"}]
    text = json.dumps({"images": images, "annotations": boxes, "categories": categories})
    (tmp_path / "a.json").write_text(text)
    found = {finding.kind: finding.cause for finding in check_dataset(tmp_path).findings}
    assert 370_000 < -int(found["labels shifted in time"].split("--label_offset ")[1].split(",")[0]) < 430_000


def test_offsets_from_ranges_are_replaced_by_better_ones(scene, tmp_path):
    events, labels = scene
    labels["t"] += 2_000_000
    write(tmp_path, events, labels)
    causes = {finding.kind: finding.cause for finding in check_dataset(tmp_path).findings}
    assert causes.keys() == {"label after the end", "labels shifted in time"}
    assert causes["label after the end"] == causes["labels shifted in time"]


def test_events_that_all_come_twice(scene, tmp_path):
    events, labels = scene
    write(tmp_path, np.repeat(events, 2), labels)
    assert kinds(tmp_path) == [("error", "events stored twice")]


def test_one_recording_in_two_splits_after_a_conversion_and_a_cut(scene, tmp_path):
    events, labels = scene
    write(tmp_path / "train", events, labels)
    later, boxes = events[9_000:].copy(), labels[labels["t"] > 3_000_000].copy()
    later["t"] += 4_000_000
    boxes["t"] += 4_000_000
    write(tmp_path / "val", later, boxes, "other", write_evt2, ".raw")
    (found,) = check_dataset(tmp_path).findings
    assert (found.severity, found.kind) == ("error", "in two splits")
    assert found.path == tmp_path / "val" / "other.raw"
    assert found.found.startswith("about 100% of its events or of those of ")
    assert found.evidence[0].values["in both files"] == pytest.approx(100, abs=1)


def test_one_label_file_in_two_splits(scene, tmp_path):
    events, labels = scene
    write_frames(tmp_path / "train", events, labels, sha256="1")
    events["p"] = 1 - events["p"]
    write_frames(tmp_path / "val", events, labels, "other", sha256="2")
    (found,) = check_dataset(tmp_path).findings
    assert (found.kind, found.path) == ("in two splits", tmp_path / "val" / "other.h5")
    assert found.found.startswith("about 100% of its boxes")


def test_few_findings_keep_the_data_of_figures(scene, tmp_path):
    events, labels = scene
    events["p"] = 1
    for index in range(MAX_EVIDENCE + 2):
        write(tmp_path, events[index * 1000 :], labels, f"a{index}")
    findings = [finding for finding in check_dataset(tmp_path).findings if finding.kind == "one polarity"]
    assert [len(finding.evidence) for finding in findings] == [1] * MAX_EVIDENCE + [0, 0]
