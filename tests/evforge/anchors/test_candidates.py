import numpy as np
import pytest

from detector.config import Config
from detector.coverage.anchor_coverage import LabelBoxes
from evforge.anchors import candidates
from evforge.anchors.candidates import (
    anchors_of,
    coverage_of,
    fit_list,
    list_name,
    pyramid_of,
    resolve_lists,
    training_boxes,
)
from evforge.space.domains import parse_domain
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


# Boxes of 16 x 16 in the centres of two cells, and one of 8 x 32; anchors of 16 pixels on cells of 8 pixels.
CONFIG = Config().with_overrides({"anchors.base_size": 16, "model.first_stride": 8, "model.num_levels": 1})
LABELS = LabelBoxes.from_corners([(12, 12, 28, 28), (20, 28, 36, 44), (16, 4, 24, 36)], [1, 1, 2], 2, 64, 96)


@pytest.mark.parametrize(
    ("fg", "anchors", "share"),
    [
        (0.5, [(1, 1)], 2 / 3),  # the third box overlaps a square by 128 of 384
        (0.3, [(1, 1)], 1),
        (0.5, [(4, 1)], 1 / 3),
        (0.5, [(4, 1), (1, 1)], 1),
    ],
)
def test_the_coverage_is_the_share_of_boxes_with_an_anchor(fg, anchors, share):
    config = CONFIG.with_overrides({"anchors.fg_iou_threshold": fg})
    assert coverage_of(LABELS, config, anchors).covered == pytest.approx(share)


@pytest.mark.parametrize(
    ("lists", "kept"),
    [
        ([[[1, 1]], [[4, 1]]], ["[[1, 1]]", "[[4, 1]]"]),  # 1/3 is half of 2/3
        ([[[4, 1], [1, 1]], [[4, 1]]], ["[[4, 1], [1, 1]]"]),  # 1/3 is less than half of 1
        ([[[4, 1]]], ["[[4, 1]]"]),
    ],
)
def test_a_list_with_at_least_half_of_the_best_coverage_is_kept(tmp_path, monkeypatch, lists, kept):
    monkeypatch.setattr(candidates, "training_boxes", lambda config: LABELS)
    space = space_of(tmp_path, f"space: {{{LIST}: {{choice: {lists}}}}}")
    assert options(resolve_lists(space, CONFIG)) == kept


def test_a_list_is_measured_at_the_lowest_foreground_threshold(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "training_boxes", lambda config: LABELS)
    # The tall shape covers one of three boxes at an IoU of 0.5, and all at 0.3, as its IoU with a square is 128 / 384.
    lists = "[[[4, 1], [1, 1]], [[4, 1]]]"
    for thresholds, number in (("[0.3, 0.7]", 2), ("[0.5, 0.7]", 1)):
        keys = f"{LIST}: {{choice: {lists}}}, anchors.fg_iou_threshold: {{uniform: {thresholds}}}"
        assert len(options(resolve_lists(space_of(tmp_path, f"space: {{{keys}}}"), CONFIG))) == number


def test_a_pyramid_has_the_geometry_of_the_settings():
    pyramid = pyramid_of(CONFIG.with_overrides({"model.num_levels": 3}), [(4, 1)])
    assert (pyramid.base_size, pyramid.first_stride, pyramid.num_levels) == (16, 8, 3)
    np.testing.assert_allclose(pyramid.shapes, [[8, 32]])


def test_fitted_anchors_have_the_shapes_of_the_boxes():
    fitted = sorted(fit_list(LABELS, CONFIG, 2))
    assert fitted == [pytest.approx((1, 1), rel=0.1), pytest.approx((4, 1), rel=0.1)]
    with pytest.raises(ValueError, match="got 4 anchors to fit, allowed: 1 to the number of boxes .3."):
        fit_list(LABELS, CONFIG, 4)


def test_names_of_lists():
    assert list_name("PSEE_ANCHORS") == "PSEE_ANCHORS"
    assert list_name([(1, 0.5), (2.25, 3.0)]) == "1:0.5 2.25:3"
    assert anchors_of("[[1, 0.5], [2.25, 3.0]]") == [[1, 0.5], [2.25, 3.0]]
    assert anchors_of("COCO_ANCHORS") == "COCO_ANCHORS"


@pytest.mark.parametrize(
    ("entry", "probes"),
    [
        ({"choice": [8, 16]}, (8, 16)),
        ({"uniform": [2, 8]}, (2, 5, 8)),
        ({"loguniform": [2, 8]}, (2, 4, 8)),
        ({"randint": [1, 4]}, (1, 2, 4)),
    ],
)
def test_a_range_is_tried_at_both_ends_and_in_the_middle(entry, probes):
    assert candidates._probes(parse_domain(entry)) == pytest.approx(probes)
