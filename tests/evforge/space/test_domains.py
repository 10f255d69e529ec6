import random

import pytest

from evforge.space.domains import Domain, parse_domain


def test_loguniform_spreads_over_orders_of_magnitude():
    domain, generator = parse_domain({"loguniform": [1e-4, 1]}), random.Random(0)
    below = sum(domain.draw(generator) < 1e-2 for _ in range(400))
    assert 150 < below < 250


@pytest.mark.parametrize(
    ("domain", "value", "possible"),
    [
        ({"uniform": [0, 10]}, 5.0, {4.0, 6.0}),
        ({"uniform": [0, 10]}, 9.0, {7.2, 10}),
        ({"loguniform": [1, 10]}, 1.0, {1, 1.2}),
        ({"randint": [1, 9]}, 5, {4, 6}),
        ({"choice": [1, 2, 4]}, 2, {1, 4}),
        ({"choice": [1, 2, 4]}, 4, {2, 4}),
        ({"choice": [1, 2]}, 3, {1, 2}),
    ],
)
def test_values_nearby(domain, value, possible):
    domain, generator = parse_domain(domain), random.Random(0)
    assert {round(domain.draw_near(value, generator), 9) for _ in range(20)} == possible


@pytest.mark.parametrize(
    ("entry", "domain"),
    [
        ({"choice": ["a", 2, True, [[1, 2]]]}, Domain("choice", ("a", 2, True, "[[1, 2]]"))),
        ({"grid": [8, 16]}, Domain("grid", (8, 16))),
        ({"uniform": [-1, 2]}, Domain("uniform", (), -1.0, 2.0)),
        ({"loguniform": ["1e-4", 1]}, Domain("loguniform", (), 1e-4, 1.0)),
        ({"randint": [3.0, 7]}, Domain("randint", (), 3, 7)),
    ],
)
def test_an_entry_becomes_a_domain(entry, domain):
    assert parse_domain(entry) == domain


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (8, "^got 8, allowed: {domain: values} with a domain of choice, grid, uniform, loguniform, randint$"),
        ({"choice": [1], "grid": [2]}, "^got .*, allowed: {domain: values}"),
        ({"normal": [0, 1]}, "^got domain 'normal', allowed: choice, grid, uniform"),
        ({"choice": 8}, "^choice: got 8, allowed: a list$"),
        ({"choice": []}, r"^choice: got \[\], allowed: at least one value$"),
        ({"choice": [1, 2, 1]}, "^choice: got .*, allowed: distinct values$"),
        ({"choice": [{"a": 1}]}, "^choice: got {'a': 1}, allowed: names, numbers, true, false and lists$"),
        ({"uniform": [2, 2]}, r"^uniform: got \[2, 2\], allowed: \[low, high\] with low < high$"),
        ({"uniform": [1, 2, 3]}, r"^uniform: got \[1, 2, 3\], allowed"),
        ({"uniform": [0, float("inf")]}, "^uniform: got"),
        ({"uniform": [False, True]}, "^uniform: got"),
        ({"loguniform": [0, 1]}, "and low > 0$"),
        ({"randint": [1, 2.5]}, "^randint: got .*, allowed: whole numbers, both included$"),
    ],
)
def test_other_entries_are_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        parse_domain(entry)


CHOICE, RANGE = Domain("choice", (4, 1, 9)), Domain("uniform", (), 2.0, 6.0)


def test_a_choice_has_options_and_a_range_has_ends():
    assert CHOICE.is_choice and not RANGE.is_choice
    assert CHOICE.extremes == (4, 1, 9) and RANGE.extremes == (2.0, 6.0)
    assert CHOICE.is_numeric and RANGE.is_numeric and not Domain("choice", (4, "a")).is_numeric


def test_what_a_domain_contains():
    assert [value for value in range(11) if CHOICE.contains(value)] == [1, 4, 9]
    assert [value for value in range(11) if RANGE.contains(value)] == [2, 3, 4, 5, 6]


def test_the_text_of_a_list_becomes_a_list_and_other_options_stay():
    domain = Domain("choice", ("[[1, 2.5]]", "[a", 3))
    assert domain.value_of("[[1, 2.5]]") == [[1, 2.5]] and domain.value_of(3) == 3
    assert domain.value_of("[[9]]") == "[[9]]"  # is no option


@pytest.mark.parametrize(
    ("at_least", "choice", "number"), [(0, 1, 2), (2, 4, 2), (5, 9, 5), (6, 9, 6), (7, 9, None), (10, None, None)]
)
def test_the_smallest_value_that_is_large_enough(at_least, choice, number):
    assert (CHOICE.smallest(at_least), RANGE.smallest(at_least)) == (choice, number)


def test_limits_make_a_domain_narrower():
    assert CHOICE.within(None, None) == CHOICE and RANGE.within(None, None) == RANGE
    assert CHOICE.within(2, None).options == (4, 9) and CHOICE.within(None, 4).options == (4, 1)
    assert RANGE.within(3, 5).extremes == (3, 5) and RANGE.within(1, 9).extremes == (2, 6)


def test_draws_reach_everything_and_nothing_else():
    generator = random.Random(0)
    assert {CHOICE.draw(generator) for _ in range(50)} == {1, 4, 9}
    assert {Domain("randint", (), 3, 5).draw(generator) for _ in range(50)} == {3, 4, 5}
    assert {Domain("randint", (), 2.5, 4.5).draw(generator) for _ in range(50)} == {3, 4}  # after `within`
    drawn = [RANGE.draw(generator) for _ in range(400)]
    assert 2 <= min(drawn) < 2.1 and 5.9 < max(drawn) <= 6 and abs(sum(drawn) / 400 - 4) < 0.2


class Asked:
    """An Optuna trial that returns what it was asked."""

    def suggest_categorical(self, *arguments):
        return ("categorical", *arguments)

    def suggest_int(self, *arguments):
        return ("int", *arguments)

    def suggest_float(self, *arguments, log):
        return ("float", *arguments, log)


@pytest.mark.parametrize(
    ("domain", "asked"),
    [
        (CHOICE, ("categorical", "key", [4, 1, 9])),
        (Domain("randint", (), 2.5, 7), ("int", "key", 3, 7)),
        (RANGE, ("float", "key", 2.0, 6.0, False)),
        (Domain("loguniform", (), 1.0, 8.0), ("float", "key", 1.0, 8.0, True)),
    ],
)
def test_optuna_is_asked_for_a_value_of_the_domain(domain, asked):
    assert domain.suggest(Asked(), "key") == asked
