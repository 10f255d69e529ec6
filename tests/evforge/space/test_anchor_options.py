import json

import pytest

from evforge.space.anchor_options import ANCHOR_LIST, expand_options, fit_count, option_text, regular_list


def test_the_options_are_those_of_the_setting():
    assert ANCHOR_LIST == "anchors.anchor_list"


def test_ratios_lie_around_1_each_twice_the_one_before():
    assert regular_list(1, [1.0]) == [(1, 1)]
    assert regular_list(2, [1.0]) == [(0.7071, 1), (1.414, 1)]
    assert regular_list(3, [1.0]) == [(0.5, 1), (1, 1), (2, 1)]


def test_scales_divide_an_octave():
    assert regular_list([1.0], 1) == [(1, 1)]
    assert regular_list([1.0], 3) == [(1, 1), (1, 1.26), (1, 1.587)]


def test_every_ratio_is_combined_with_every_scale():
    assert regular_list([0.5, 3], [1, 4]) == [(0.5, 1), (0.5, 4), (3, 1), (3, 4)]


def test_mappings_in_a_choice_are_replaced_and_other_options_stay():
    entry = {"choice": ["PSEE_ANCHORS", [[1, 2]], {"ratios": [3], "scales": [0.5, 2]}, {"fit": 6}]}
    before = json.dumps(entry)
    assert expand_options(entry) == {"choice": ["PSEE_ANCHORS", [[1, 2]], [[3, 0.5], [3, 2]], '{"fit": 6}']}
    assert json.dumps(entry) == before


@pytest.mark.parametrize("entry", [8, None, {"uniform": [0.1, 0.2]}, {"choice": 5}, {"fit": 6}])
def test_other_entries_stay(entry):
    assert expand_options(entry) == entry


@pytest.mark.parametrize(
    "option",
    [
        {"fit": 0},
        {"fit": 2.5},
        {"fit": True},
        {"fit": 6, "scales": 2},
        {"ratios": 3},
        {"ratios": 3, "scales": []},
        {"ratios": [1, -1], "scales": 2},
        {"ratios": ["a"], "scales": 2},
        {},
    ],
)
def test_other_mappings_are_refused(option):
    with pytest.raises(ValueError, match=r"^got \{.*\}, allowed: a name, \[\[ratio, scale\], ...\], \{ratios: "):
        expand_options({"choice": [option]})


@pytest.mark.parametrize(
    ("option", "count"), [('{"fit": 6}', 6), ("PSEE_ANCHORS", None), ("[[1, 2]]", None), (8, None)]
)
def test_the_number_of_anchors_to_fit(option, count):
    assert fit_count(option) == count


def test_pairs_become_text_that_a_domain_can_store():
    assert option_text([(1.0, 0.5), (2.0, 3.0)]) == "[[1.0, 0.5], [2.0, 3.0]]"
