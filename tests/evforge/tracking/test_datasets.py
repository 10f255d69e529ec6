import json
from pathlib import Path

from detector.data.fingerprint import data_fingerprint
from evforge.tracking import datasets
from evforge.tracking.datasets import dataset_inputs


def test_a_split_is_described_by_its_numbers(tiny_config):
    folder = Path(tiny_config.data.dataset_path)
    found = {one["context"]: one for one in dataset_inputs(tiny_config)}
    assert list(found) == ["train", "val", "test"]
    train = found["train"]
    assert (train["name"], train["digest"]) == (folder.name, data_fingerprint(folder / "train"))
    assert json.loads(train["source"]) == {"uri": str(folder / "train")}
    assert json.loads(train["profile"]) == {
        "recordings": 4,
        "frames": 4 * 60,
        "boxes": 4 * 60 * 2,
        "boxes of a class": {"block": 240, "tower": 240},
    }
    (frames,) = json.loads(json.loads(train["schema"])["mlflow_tensorspec"]["features"])
    assert frames["tensor-spec"] == {"dtype": "uint8", "shape": [-1, 2, 64, 96]}


def test_only_the_boxes_of_trained_classes_count(tiny_config):
    (val,) = dataset_inputs(tiny_config.with_overrides({"data.classes": ["tower"]}), ["val"])
    assert json.loads(val["profile"])["boxes of a class"] == {"tower": 60}


def test_the_frames_of_a_large_split_are_not_read(tiny_config, monkeypatch):
    monkeypatch.setattr(datasets, "SMALL_BYTES", 1000)
    monkeypatch.setattr(datasets, "data_fingerprint", None)
    digests = [one["digest"] for one in dataset_inputs(tiny_config)]
    assert len(set(digests)) == 3 and all(digest.startswith("files-") and len(digest) <= 36 for digest in digests)


def test_a_dataset_that_cannot_be_described_is_a_warning(tiny_config, tmp_path, capsys):
    assert dataset_inputs(tiny_config.with_overrides({"data.dataset_path": str(tmp_path)})) == []
    assert "warning: the description of the dataset" in capsys.readouterr().err


def test_inputs_are_in_the_run_once(tiny_config, tracker):
    run_id = tracker.start_run("train", {})
    for _ in range(2):
        tracker.log_inputs(run_id, dataset_inputs(tiny_config, ["train", "val"]))
    tracker.log_inputs(run_id, [])
    inputs = tracker.client.get_run(run_id).inputs.dataset_inputs
    contexts = {tag.value: one.dataset.digest for one in inputs for tag in one.tags if tag.key == "mlflow.data.context"}
    assert len(inputs) == 2
    assert contexts == {one["context"]: one["digest"] for one in dataset_inputs(tiny_config, ["train", "val"])}
