from pathlib import Path

import pytest

from detector.config.checks import Mistakes, Range, raise_all, require, require_choice, require_equal


def test_a_failed_requirement_names_the_key_the_value_and_what_is_allowed():
    require(True, "model.width", "wide", "numbers")
    with pytest.raises(ValueError, match="^model.width: got 'wide', allowed: numbers$"):
        require(False, "model.width", "wide", "numbers")


def test_a_choice_is_one_of_the_names():
    require_choice("mode", "max", ("min", "max"))
    with pytest.raises(ValueError, match="^mode: got 'most', allowed: one of min, max$"):
        require_choice("mode", "most", ("min", "max"))


@pytest.mark.parametrize(
    ("allowed", "text", "inside", "outside"),
    [
        (Range(above=2), "a number above 2", [2.5, 3, 1e9], [2, 1, -5]),
        (Range(least=2), "a number of at least 2", [2, 2.5], [1.999, -3]),
        (Range(least=0), "a number of at least 0", [0, 7], [-1, -0.001]),
        (Range(above=0, most=1), "a number above 0, up to 1", [0.001, 1], [0, 1.001]),
        (Range(least=3, most=5), "a number from 3 to 5", [3, 4, 5], [2, 6]),
        (Range(above=2, most=4), "a number above 2, up to 4", [2.1, 4], [2, 4.1]),
        (Range(least=-4, most=-2), "a number from -4 to -2", [-4, -2], [-5, 0]),
    ],
)
def test_bounds_of_ranges(allowed, text, inside, outside):
    assert str(allowed) == text
    for value in inside:
        allowed.check("key", value)
    for value in outside:
        with pytest.raises(ValueError, match=f"^key: got {value}, allowed: {text}$"):
            allowed.check("key", value)


def test_a_range_lets_values_pass_that_are_no_numbers():
    for value in (None, "auto", [7]):
        Range(above=0, most=1).check("key", value)


def test_a_range_without_lower_bound_begins_at_zero():
    Range(most=2).check("key", 0)
    for value in (-0.5, 2.5):
        with pytest.raises(ValueError, match=f"^key: got {value}, allowed: "):
            Range(most=2).check("key", value)


def test_all_mistakes_are_raised_at_once():
    raise_all([])
    with pytest.raises(ValueError, match="^a: wrong$") as error:
        raise_all(["a: wrong"])
    assert type(error.value) is ValueError
    with pytest.raises(Mistakes, match="^a: wrong\nb: wrong, too$"):
        raise_all(["a: wrong", "b: wrong, too"])


def test_a_value_in_a_file_must_be_the_required_one():
    require_equal(Path("a.h5"), "delta_t", 50, 50, "data.delta_t")
    with pytest.raises(ValueError, match=r"^a.h5: delta_t is 40, allowed by data.delta_t: 50$"):
        require_equal(Path("a.h5"), "delta_t", 40, 50, "data.delta_t")
