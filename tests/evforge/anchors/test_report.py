import csv
import re

import numpy as np
import pytest
from PIL import Image

from detector.config import Config
from evforge.anchors.candidates import resolve_lists, training_boxes
from evforge.anchors.figure import coverage_figure
from evforge.anchors.report import anchors
from evforge.cli.main import main
from evforge.space.space import load_space

# The tiny dataset: 4 training recordings of 60 labelled frames with a block of 20 x 20 and a tower of 14 x 32 in each.
NUM_BOXES = 480
LIST = "anchors.anchor_list"
FITTING, FAR_TOO_LARGE = [[1, 1.25], [2.2857, 1.32]], [[1, 8], [2, 8]]


def space_of(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return load_space(path)


def options(space):
    return list(space.domains[LIST].options)


def test_training_boxes_are_those_that_the_settings_leave(tiny_config):
    labels = training_boxes(tiny_config)
    assert (len(labels), labels.num_classes, labels.height, labels.width) == (NUM_BOXES, 2, 64, 96)
    blocks = labels.boxes[labels.groups < 3]
    np.testing.assert_allclose(np.median(blocks[:, 2:], axis=0), [20, 20], atol=1e-4)
    towers = training_boxes(tiny_config.with_overrides({"data.min_box_diag": 30, "data.classes": ["tower"]}))
    assert len(towers) == NUM_BOXES / 2 and towers.num_classes == 1


def test_hopeless_lists_are_dropped_with_a_line(tiny_config, tmp_path):
    space = space_of(tmp_path, f"space: {{{LIST}: {{choice: [PSEE_ANCHORS, {FITTING}, {FAR_TOO_LARGE}]}}}}")
    lines = []
    kept = resolve_lists(space, tiny_config, lines.append)
    assert options(kept) == ["PSEE_ANCHORS", "[[1, 1.25], [2.2857, 1.32]]"]
    (line,) = lines
    assert line.startswith("dropped anchors 1:8 2:8: covers 0% of the training boxes, the best list ")
    assert options(space)[2] == "[[1, 8], [2, 8]]"  # what was read stays as it was


def test_a_list_counts_with_the_setting_that_suits_it_best(tiny_config, tmp_path):
    # A base of 2 makes squares of 16 and 2-to-1 shapes of them out of the list of scale 8.
    text = f"space: {{{LIST}: {{choice: [{FITTING}, {FAR_TOO_LARGE}]}}, anchors.base_size: {{choice: [2, 16]}}}}"
    assert len(options(resolve_lists(space_of(tmp_path, text), tiny_config, print))) == 2
    # With an IoU of 0.95 nearly no box has an anchor, with 0.1 each list covers all.
    lenient = (
        f"space: {{{LIST}: {{choice: [{FITTING}, [[1, 2.5]]]}}, anchors.fg_iou_threshold: {{uniform: [0.1, 0.95]}}}}"
    )
    assert len(options(resolve_lists(space_of(tmp_path, lenient), tiny_config, print))) == 2


def test_fitted_lists_become_literal_before_trials_start(tiny_config, tmp_path):
    space = space_of(tmp_path, f"space: {{{LIST}: {{choice: [{{fit: 2}}, PSEE_ANCHORS]}}}}")
    lines = []
    resolved = resolve_lists(space, tiny_config, lines.append)
    fitted = resolved.overrides_of({LIST: options(resolved)[0]})[LIST]
    assert len(fitted) == 2
    ratios = sorted(ratio for ratio, _ in fitted)
    assert ratios == pytest.approx([1, 32 / 14], rel=0.25)
    assert lines == [f"fitted 2 anchors to {NUM_BOXES} training boxes: {' '.join(f'{r:g}:{s:g}' for r, s in fitted)}"]
    again = resolve_lists(space, tiny_config, lines.append)
    assert again == resolved


def test_a_space_without_a_choice_of_lists_is_left_alone(tmp_path):
    space = space_of(tmp_path, "space: {optim.lr: {uniform: [0.1, 0.2]}}")
    assert resolve_lists(space, Config()) is space


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("[NO_ANCHORS, PSEE_ANCHORS]", "anchors.anchor_list"),
        ("[[[1, -1]], PSEE_ANCHORS]", "anchors.anchor_list: got .* allowed: .ratio, scale. pairs of numbers above 0"),
        ("[{fit: 1000}]", "got 1000 anchors to fit, allowed: 1 to the number of boxes .480."),
    ],
)
def test_lists_are_checked(tiny_config, tmp_path, choice, message):
    space = space_of(tmp_path, f"space: {{{LIST}: {{choice: {choice}}}}}")
    with pytest.raises(ValueError, match=message) as error:
        resolve_lists(space, tiny_config)
    assert f"{space.path}: space.anchors.anchor_list: " in str(error.value)


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


def test_the_picture_shows_curves_boxes_and_anchors():
    sides = np.array([[10.0, 20.0], [40.0, 30.0]])
    levels = [np.array([[16.0, 16.0]]), np.array([[32.0, 32.0]])]
    curves = {"a": np.linspace(1, 0, 20), "b": np.ones(20)}
    recall, shapes = coverage_figure(curves, 0.45, sides, levels, "a", "2 boxes").axes
    assert [line.get_label() for line in recall.get_lines()] == ["a", "b", "positive from 0.45"]
    np.testing.assert_array_equal(recall.get_lines()[0].get_ydata(), curves["a"])
    boxes, *anchors_of_levels = shapes.get_lines()
    np.testing.assert_array_equal(boxes.get_xydata(), sides)
    assert [line.get_xydata().tolist() for line in anchors_of_levels] == [[[16, 16]], [[32, 32]]]
    assert (shapes.get_xlim(), shapes.get_ylim()) == ((5, 80), (10, 60))


def test_large_label_sets_are_thinned_in_the_picture(monkeypatch):
    monkeypatch.setattr("evforge.anchors.figure.MAX_BOXES", 10)
    sides = np.arange(1, 26)[:, None] * np.ones(2)
    shapes = coverage_figure({}, 0.5, sides, [sides[:1]], "a", "").axes[1]
    assert shapes.get_lines()[0].get_xdata().tolist() == [1, 4, 7, 10, 13, 16, 19, 22, 25]
