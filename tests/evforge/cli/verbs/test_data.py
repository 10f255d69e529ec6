import json
from pathlib import Path

import pytest

import detector.synthetic
from detector.config.label_timing import LabelTiming
from evforge.anchors import report
from evforge.cli.settings import Settings
from evforge.cli.verbs import data
from evforge.datasets import build, check, inspect, labels

SETTINGS = Settings(None, {"data.delta_t": "10000", "train.storage": "/runs"})
SENSOR = {"sensor_height": 48, "sensor_width": 64}


@pytest.fixture
def calls(monkeypatch):
    """What the functions behind the verbs were called with; each returns a folder, or 1 for `check`."""
    found = []

    def replace(owner, name, result):
        monkeypatch.setattr(owner, name, lambda *args, **options: found.append((name, args, options)) or result)

    replace(detector.synthetic, "write_dataset", Path("out"))
    replace(build, "build", Path("dataset"))
    replace(inspect, "inspect", [Path("figures-a"), Path("figures-b")])
    replace(check, "check", 1)
    replace(labels, "convert", None)
    replace(report, "anchors", Path("out"))
    return found


def test_synth_writes_recordings_of_each_split_and_names_the_next_command(calls, capsys):
    data.synth("out", train=5, val=2, test=1, duration_s=3.5, height=48, width=64, seed=9)
    assert calls == [("write_dataset", ("out", {"train": 5, "val": 2, "test": 1}, 3.5, 48, 64), {"seed": 9})]
    assert "next: evforge build out/*/*_td.dat --output DATASET\n" in capsys.readouterr().out


def test_build_passes_on_what_was_given_and_names_the_next_command(calls, capsys):
    timing = LabelTiming(offset=3)
    given = {"train": "0-20", "test": "20.5-30", "label_map": '{"0": "car"}', "labels": "l.npy", "skip_broken": True}
    data.build(["a.raw"], SETTINGS, output="dataset", layout="gen1", timing=timing, **SENSOR, **given)
    ((_, (recordings, output, config, splits, label_map), options),) = calls
    assert (recordings, output, config.delta_t) == (["a.raw"], "dataset", 10_000)
    assert splits == {"train": (0, 20), "test": (20.5, 30)} and label_map == {0: "car"}
    assert options == {
        "sensor": (48, 64),
        "skip_broken": True,
        "labels": "l.npy",
        "layout": "gen1",
        "timing": timing,
    }
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["dataset: dataset", "next: evforge train --data.dataset_path dataset --data.delta_t=10000"]


def test_the_next_command_after_a_build_in_a_bucket_names_a_folder_to_fill_in(calls, monkeypatch, capsys):
    monkeypatch.setattr(build, "build", lambda *_, **__: "s3://bucket/dataset")
    data.build(["a.raw"], Settings(), output="s3://bucket/dataset")
    assert capsys.readouterr().out.splitlines() == [
        "dataset: s3://bucket/dataset",
        "to train: copy the dataset to a folder, or mount it; FOLDER is the path of this folder",
        "next: evforge train --data.dataset_path FOLDER",
    ]


@pytest.mark.parametrize("text", ["20", "a-b", "0..20", ""])
def test_a_split_by_time_is_a_range_of_seconds(calls, text):
    with pytest.raises(ValueError, match=rf"^--val: got '{text}', allowed: a range of seconds, such as 0-20$"):
        data.build(["a.raw"], SETTINGS, output="dataset", val=text)
    assert calls == []


def test_a_representation_that_fails_is_found_before_anything_is_built(calls):
    settings = Settings(None, {"data.preprocess": "mylab.wrong:one_channel"})
    with pytest.raises(ValueError, match="^data.preprocess: got 'mylab.wrong:one_channel', which cannot be used"):
        data.build(["a.raw"], settings, output="dataset")
    assert calls == []


def test_a_label_map_is_a_file_or_a_text(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps({"3": "bus", "0": "car"}))
    assert data._label_map(str(tmp_path / "map.json")) == data._label_map(' {"0": "car", "3": "bus"}')
    assert data._label_map(' {"0": "car", "3": "bus"}') == {0: "car", 3: "bus"}
    assert data._label_map(None) is None
    with pytest.raises(ValueError, match="--label_map"):
        data._label_map("{0: car")
    with pytest.raises(ValueError, match="got 'person', allowed: ids and names, such as '{\"1\": \"person\"}'"):
        data._label_map("person")


def test_inspect_prints_the_folder_of_every_path(calls, capsys):
    data.inspect(["a", "b"], SETTINGS, output="o", labels="l.json", **SENSOR)
    ((_, (paths, config, output, sensor, timing, labels), _),) = calls
    assert (paths, config.data.delta_t, output, labels) == (["a", "b"], 10_000, "o", "l.json")
    assert (sensor, timing) == ((48, 64), LabelTiming())
    assert capsys.readouterr().out.splitlines() == [
        "figures: figures-a",
        "figures: figures-b",
        "next: evforge check a b --sensor_height=48 --sensor_width=64 --labels=l.json --data.delta_t=10000"
        " --train.storage=/runs",
    ]


def test_check_returns_the_exit_code_and_names_itself_after_errors(calls, capsys):
    assert data.check(["a"], SETTINGS, output="o", labels="l.json", **SENSOR) == 1
    ((_, (paths, sensor, timing), options),) = calls
    assert (paths, sensor, timing) == (["a"], (48, 64), LabelTiming())
    assert (options["output"], options["storage"], options["labels"]) == ("o", "/runs", "l.json")
    assert options["data"].delta_t == 10_000
    assert capsys.readouterr().out.splitlines()[-1] == (
        "next: evforge check a --sensor_height=48 --sensor_width=64 --labels=l.json --data.delta_t=10000"
        " --train.storage=/runs"
    )


def test_after_a_check_without_errors_recordings_are_built_and_datasets_are_used(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(check, "check", lambda *_, **__: 0)
    timing = LabelTiming(offset=3)
    recording = tmp_path / "a.raw"
    recording.touch()
    assert data.check([str(recording)], SETTINGS, timing=timing) == 0
    flags = "--label_offset=3 --data.delta_t=10000"
    assert capsys.readouterr().out == f"next: evforge build {recording} --output DATASET {flags}\n"
    flags = "--data.delta_t=10000 --train.storage=/runs"
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.h5").touch()
    assert data.check([str(tmp_path)], SETTINGS) == 0
    assert capsys.readouterr().out == f"next: evforge train --data.dataset_path {tmp_path} {flags}\n"
    assert data.check([str(tmp_path / "val")], SETTINGS) == 0  # it cannot be trained with
    assert capsys.readouterr().out == f"next: evforge inspect {tmp_path / 'val'} {flags}\n"


@pytest.mark.parametrize("verb", ["inspect", "check", "anchors"])
def test_with_json_no_next_command_is_printed(calls, capsys, verb):
    getattr(data, verb)("folder" if verb == "anchors" else ["folder"], Settings(), json=True)
    assert calls[0][2]["as_json"] is True and capsys.readouterr().out == ""


def test_labels_are_converted_with_what_was_given(calls, capsys):
    data.labels("convert", "a.json", "b.npy", SETTINGS, to="npy", recording="a.raw", label_map='{"2": "car"}', **SENSOR)
    ((_, (source, target, config), options),) = calls
    assert (source, target, config.delta_t) == ("a.json", "b.npy", 10_000)
    assert options == {
        "to": "npy",
        "recording": "a.raw",
        "label_map": {2: "car"},
        "sensor": (48, 64),
        "timing": LabelTiming(),
        "overwrite": False,
    }
    flags = "--sensor_height=48 --sensor_width=64 --labels=b.npy --data.delta_t=10000"
    assert capsys.readouterr().out == f"next: evforge check a.raw {flags}\n"


def test_the_check_of_converted_labels_does_not_get_the_format_of_their_source(calls, capsys):
    data.labels("convert", "a.json", "b.npy", Settings(None, {"data.label_format": "coco", "data.delta_t": "5"}))
    assert capsys.readouterr().out == "next: evforge check RECORDING --labels=b.npy --data.delta_t=5\n"


def test_anchors_are_compared_on_the_dataset_that_is_given(calls, capsys):
    data.anchors("folder", SETTINGS, lists=["fit:3"], output="out")
    ((_, (config, lists, output), _),) = calls
    assert (config.data.dataset_path, config.data.delta_t, lists, output) == ("folder", 10_000, ["fit:3"], "out")
    assert capsys.readouterr().out.splitlines() == [
        "figure and CSV file: out",
        "next: evforge train --data.dataset_path folder --data.delta_t=10000 --train.storage=/runs",
    ]
