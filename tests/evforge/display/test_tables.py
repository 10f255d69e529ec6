import pytest

from evforge.display.tables import metric_text, range_text, shorten, text_table


def test_numbers_are_right_aligned_and_lines_carry_no_trailing_blanks():
    lines = [("name", "boxes", "note"), ("car", "7", ""), ("pedestrian", "1200", "few")]
    assert text_table(lines, numbers=[1]) == (
        "name        boxes  note\n----------  -----  ----\ncar             7\npedestrian   1200  few"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((None,), "-"), ((0.0,), "0.0000"), ((0.12346,), "0.1235"), ((0.12346, 2), "0.12")],
)
def test_a_metric_has_a_fixed_number_of_digits(arguments, text):
    assert metric_text(*arguments) == text


@pytest.mark.parametrize(
    ("start", "stop", "text"),
    [(None, 16, "below 16"), (16, 32.5, "16 to 32.5"), (96, None, "from 96"), (0, 1, "0 to 1")],
)
def test_a_range_can_have_one_limit(start, stop, text):
    assert range_text(start, stop) == text


@pytest.mark.parametrize(
    ("name", "length", "text"),
    [("abcdefgh", 8, "abcdefgh"), ("abcdefghi", 8, "abc…fghi"), ("abcdefgh", 7, "ab…efgh"), ("ab", 8, "ab")],
)
def test_a_long_name_loses_its_middle(name, length, text):
    assert shorten(name, length) == text
