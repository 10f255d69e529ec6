"""`evforge build --layout NAME FOLDER`."""

import json
import re

import pytest
from small_recordings import DELTA_T, files_in, make_recording

from detector.config.extensions import LAYOUTS
from evforge.cli.docs import argument_docs
from evforge.cli.main import main
from evforge.cli.verbs import VERBS

LAB = """
from pathlib import Path
from detector.data.builder.source import Source
from detector.data.layouts import Layout

def find(folder):
    return [Source(folder / "all" / "street_td.dat", split="val", name="renamed")]

OURS = Layout(find=find, names={3: "car"}, source="our lab")
"""


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """A layout outside the product, in a module that no other test uses."""
    name = f"layout_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(LAB)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{name}:OURS"


def build(*arguments):
    return main(["build", f"--data.delta_t={DELTA_T}", "--layout", *map(str, arguments)])


def test_a_layout_outside_the_product(tmp_path, layout):
    make_recording(tmp_path / "set" / "all")
    assert build(layout, tmp_path / "set", "--output", tmp_path / "out") == 0
    assert files_in(tmp_path / "out") == ["label_map_dictionary.json", "val/renamed.h5", "val/renamed_bbox.npy"]
    assert json.loads((tmp_path / "out" / "label_map_dictionary.json").read_text()) == {"3": "car"}


def test_a_public_dataset(tmp_path, capsys):
    make_recording(tmp_path / "gen1" / "train")
    assert build("gen1", tmp_path / "gen1", "--output", tmp_path / "out") == 2
    assert "height, width: got 240, 304, allowed: those of the header, 8, 12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kitti", "set"], "layout: got 'kitti', allowed: gen1, 1mpx, dsec_det, pedro"),
        (["gen1", "no_such_folder"], "--layout gen1: got no_such_folder, allowed: the folder of the dataset"),
        (["gen1", "set", "set"], "--layout gen1: got set, set, allowed: the folder of the dataset"),
        (["gen1", "set", "--labels", "x"], "--labels: got x, allowed: none with --layout"),
        (["gen1", "set"], "set: no recordings of this layout, expected: "),
        (["gen1", "set", "--train", "0-1"], "--layout: got --train, --val or --test, allowed: none of them"),
    ],
)
def test_wrong_use(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)
    assert build(*arguments, "--output", "out") == 2
    assert re.search(re.escape(message), capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_help_names_all_layouts():
    text = argument_docs(VERBS["build"])["layout"]
    assert all(re.search(rf"\b{name}\b", text) for name in LAYOUTS)
