import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT
from streams import SENSOR

from detector.__main__ import main as detector
from detector.events import BBOX_dtype, EventCD, open_events, write_evt2
from detector.labels import load_labels, save_labels
from detector.labels.convert import convert_labels
from evforge.cli.main import main as evforge
from evforge.recipes import RECIPES

README = ROOT / "README.md"
SMALL = """
data: {delta_t: 250000, num_tbins: 5, batch_size: 2, num_workers: 0, min_box_diag: 0, min_box_side: 0, augment: false}
model: {feature_base: 2, feature_channels_out: 8, first_stride: 8, num_levels: 2}
anchors: {base_size: 16}
train: {max_epochs: 1, precision: 32-true}
"""
SPACE = """
tune: {num_samples: 1, searcher: random, grace_epochs: 1, final_seeds: 1}
space: {optim.lr: {choice: [0.001, 0.002]}}
"""
SECONDS = 30
FIRST = "From your recording to boxes on a video"


def section(title):
    """The text of a section of README."""
    return re.search(rf"## {title}\n(.*?)\n## ", README.read_text(), re.DOTALL)[1]


def commands(title):
    """The lines of the shell block of a section, without comments."""
    block = re.search(r"```sh\n(.*?)```", section(title), re.DOTALL)[1]
    return [line.partition("  #")[0].strip() for line in block.splitlines()]


def write_street(path, labels_name, label_format):
    """A person who walks to and fro, and some noise. The labels have image numbers and no times."""
    rng = np.random.default_rng(0)
    labels = np.zeros(SECONDS * 10, BBOX_dtype)
    labels["t"] = 100_000 * np.arange(len(labels))
    labels["x"] = 40 + 30 * np.sin(labels["t"] / 2e6)
    labels["y"], labels["w"], labels["h"] = 30, 16, 36
    events = np.zeros(SECONDS * 2000, EventCD)
    events["t"] = np.sort(rng.integers(0, SECONDS * 1_000_000, len(events)))
    events["p"] = rng.integers(0, 2, len(events))
    events["x"] = 40 + 30 * np.sin(events["t"] / 2e6) + rng.integers(0, 16, len(events))
    events["y"] = 30 + rng.integers(0, 36, len(events))
    noise = rng.random(len(events)) < 0.1
    events["x"][noise], events["y"][noise] = (rng.integers(0, side, noise.sum()) for side in reversed(SENSOR))
    write_evt2(path, events, *SENSOR)
    save_labels(path.with_name("given.npy"), labels)
    with open_events(path) as recording:
        target, names = path.with_name(labels_name), {0: "person"}
        convert_labels(path.with_name("given.npy"), target, label_format, recording=recording, names=names)
    if label_format == "coco":
        content = json.loads(target.read_text())
        for number, image in enumerate(content["images"]):
            del image["t"]
            image["file_name"] = f"frame_{number:06d}.png"
        target.write_text(json.dumps(content))
    else:
        (target / "timestamps.txt").unlink()


def run(line):
    """A line as a shell would run it, in this process: Python's and Ray's starts are paid for already."""
    words = shlex.split(line)
    # The tests' Ray was started in another folder.
    words = [str(Path(word).absolute()) if word == "dataset" and Path(word).is_dir() else word for word in words]
    if words[:3] == ["python", "-m", "detector"]:
        return detector(words[3:])
    assert words[0] == "evforge"
    return evforge(words[1:])


def run_all(lines, capfd):
    for line in lines:
        assert run(line) == 0, (line, capfd.readouterr().err)


@pytest.mark.parametrize(("name", "label_format"), [("street_labels", "yolo"), ("street_voc", "voc")])
def test_a_recording_is_built_with_other_label_formats(tmp_path, monkeypatch, name, label_format):
    write_street(tmp_path / "street.raw", name, label_format)
    monkeypatch.chdir(tmp_path)
    (line,) = (line for line in commands(FIRST) if line.startswith("evforge build"))
    assert run(line) == 0
    (labels,) = (tmp_path / "dataset" / "val").glob("*_bbox.npy")
    assert np.unique(load_labels(labels)["t"]).tolist() == list(range(20_100_000, 24_000_001, 100_000))


@pytest.mark.usefixtures("ray_head", "tracking_uri")
def test_the_commands_of_the_readme(tmp_path, monkeypatch, capfd):
    write_street(tmp_path / "street.raw", "street.json", "coco")
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.setitem(RECIPES, "pedestrians", tmp_path / "small.yaml")
    monkeypatch.chdir(tmp_path)
    run_all(commands(FIRST), capfd)
    assert len(commands(FIRST)) <= 5
    assert "120 frames, 30.0 s of recording" in capfd.readouterr().out
    assert (tmp_path / "found" / "street.gif").read_bytes()[:6] == b"GIF89a"
    assert load_labels(tmp_path / "found" / "street_bbox.npy").dtype == BBOX_dtype

    run_all(commands("Models in production"), capfd)
    names = {path.name for path in (tmp_path / "found").iterdir()}
    boxes = {"street_bbox.npy", "street.csv", "street.json"}
    frames = {"street_bbox.npy.frames.json", "street.csv.frames.json"}  # COCO's JSON holds its frames itself
    assert names == {"street.gif", "again.gif", *boxes, *frames}

    (tmp_path / "tune_spaces").mkdir()
    for name in ("joint", "smoke"):
        (tmp_path / "tune_spaces" / f"{name}.yaml").write_text(SPACE)
    run_all([line for line in commands("Searches") if line != "evforge ui"], capfd)  # which would serve for ever
    (study,) = (tmp_path / "runs").glob("study-*")
    assert (study / "report" / "index.html").is_file() or list((study / "report").glob("*.html"))


@pytest.mark.usefixtures("ray_head", "tracking_uri")
def test_the_functions_of_the_readme(tmp_path, monkeypatch, capfd):
    write_street(tmp_path / "street.raw", "street.json", "coco")
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.setitem(RECIPES, "pedestrians", tmp_path / "small.yaml")
    (tmp_path / "tune_spaces").mkdir()
    (tmp_path / "tune_spaces" / "smoke.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    run_all([line for line in commands(FIRST) if line.startswith("evforge build")], capfd)
    code = re.search(r"```python\n(.*?)```", section("Python"), re.DOTALL)[1]
    seen = []
    code = code.replace('"dataset"', repr(str(tmp_path / "dataset"))).replace("print(boxes)", "seen.append(boxes)")
    exec(code, {"seen": seen})  # noqa: S102
    assert len(seen) == 120
