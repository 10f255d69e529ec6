import csv
import re

import pytest
from PIL import Image

from detector.config import Config
from evforge.anchors.report import anchors
from evforge.cli.main import main

# The tiny dataset: 4 training recordings of 60 labelled frames with a block of 20 x 20 and a tower of 14 x 32 in each.
NUM_BOXES = 480
LIST = "anchors.anchor_list"
FITTING, FAR_TOO_LARGE = [[1, 1.25], [2.2857, 1.32]], [[1, 8], [2, 8]]


def test_the_verb_prints_draws_and_writes(tiny_config, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text(f"space: {{{LIST}: {{choice: [{FAR_TOO_LARGE}, {{fit: 2}}]}}}}")
    folder = anchors(tiny_config, ["PSEE_ANCHORS", "fit:3", "[[1, 1.25]]", str(space)], str(tmp_path / "out"))
    text = capsys.readouterr().out
    assert text.startswith("480 training boxes of ") and "in 96x64 pixels" in text
    table = [re.split(r"\s{2,}", line) for line in text.split("\n\n")[1].splitlines()[2:]]
    lists = ["PSEE_ANCHORS", "fit:3", "1:1.25", "1:8 2:8", "fit:2"]
    assert [row[:2] for row in table] == [list(row) for row in zip(lists, "63122", strict=True)]
    assert "best list: fit:3; in a configuration:\nanchors:\n  base_size: 16\n  anchor_list: [[" in text
    rows = list(csv.DictReader((folder / "anchors.csv").open()))
    groups = [(name, size) for name in ("all", "block", "tower") for size in ("all", "small", "medium", "big")]
    assert [(row["class"], row["size"], row["list"]) for row in rows] == [(*g, name) for g in groups for name in lists]
    assert [row["boxes"] for row in rows if row["list"] == "fit:2" and row["size"] == "all"] == ["480", "240", "240"]
    assert all(row["covered"] == row["recall_0.5"] for row in rows)
    with Image.open(folder / "anchors.png") as picture:
        assert picture.size[0] > picture.size[1] > 300


def test_a_figure_that_fails_is_a_warning(tiny_config, tmp_path, monkeypatch, capsys):
    def broken(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("evforge.anchors.report.coverage_figure", broken)
    folder = anchors(tiny_config, ["PSEE_ANCHORS"], str(tmp_path / "out"))
    assert [path.name for path in folder.iterdir()] == ["anchors.csv"]
    assert "anchors.png was not drawn: RuntimeError: no fonts" in capsys.readouterr().err


def test_the_pasted_configuration_is_one(tiny_config, tmp_path, capsys):
    anchors(tiny_config, ["fit:2"], str(tmp_path / "out"))
    text = capsys.readouterr().out.partition("in a configuration:\n")[2]
    path = tmp_path / "pasted.yaml"
    path.write_text(text)
    pasted = Config.load(path).anchors
    assert pasted.base_size == 16 and len(pasted.anchor_list) == 2


def test_a_finer_grid_is_recommended_where_it_helps(tiny_config, tmp_path, capsys):
    coarse = tiny_config.with_overrides({"model.first_stride": 16, "model.num_levels": 1})
    anchors(coarse, ["PSEE_ANCHORS"], str(tmp_path / "out"))
    assert "model.first_stride 8 and model.num_levels 2 would cover" in capsys.readouterr().out
    anchors(tiny_config, ["PSEE_ANCHORS"], str(tmp_path / "out"))
    assert "would cover" not in capsys.readouterr().out


def test_settings_own_list_comes_first_by_default(tiny_config, tmp_path, capsys):
    anchors(tiny_config.with_overrides({LIST: FITTING}), None, str(tmp_path / "out"))
    head = capsys.readouterr().out.split("\n\n")[1].splitlines()[2:]
    assert [line.split()[0] for line in head] == ["settings", "PSEE_ANCHORS", "COCO_ANCHORS", "fit:6", "fit:9"]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (["fit:x"], "--lists: got 'fit:x', allowed: fit:K"),
        (["NO_ANCHORS"], "anchors.anchor_list"),
        (["nowhere.yaml"], "nowhere.yaml: no such search space"),
    ],
)
def test_errors_of_the_verb_are_one_line(tiny_config, tmp_path, capsys, lists, message):
    path = tmp_path / "config.yaml"
    path.write_text(tiny_config.to_yaml())
    assert main(["anchors", tiny_config.data.dataset_path, "--config", str(path), "--lists", *lists]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("evforge: error: ") and message in output.err
    assert not (tmp_path / "runs").exists()


def test_a_space_without_lists_is_refused(tiny_config, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("space: {optim.lr: {uniform: [0.1, 0.2]}}")
    with pytest.raises(ValueError, match=r"space.yaml: searches no anchors.anchor_list"):
        anchors(tiny_config, [str(space)], str(tmp_path / "out"))
