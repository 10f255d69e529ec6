import pytest

from detector.events.headers.column_names import find_names, parse_columns, plain_name, time_unit


@pytest.mark.parametrize(
    ("name", "plain", "unit"),
    [
        ("t", "t", None),
        (' "T" ', "t", None),
        ("t_us", "t", "us"),
        ("time [s]", "time", "s"),
        ("Timestamp(ns)", "timestamp", "ns"),
        ("ts", "ts", None),
        ("xs", "xs", None),
        ("x@640", "x", None),
        ("x [px]", "x", None),
        ("ms_map_idx", "ms_map_idx", None),
        ("t_start", "t_start", None),
    ],
)
def test_names_and_units(name, plain, unit):
    assert plain_name(name) == plain and time_unit(name) == unit


def test_columns_are_found():
    assert find_names("a", ["id", "TS", "on", "Y", "X"]) == ("X", "Y", "on", "TS")
    assert find_names("a", ["xs", "ys", "ts", "ps"]) == ("xs", "ys", "ps", "ts")
    assert find_names("a", ["p", "polarity", "x", "y", "t", "timestamp"]) == ("x", "y", "p", "t")
    with pytest.raises(ValueError, match=r"a: no events: found x, y; required: x\|xs, .*, see b$"):
        find_names("a", ["x", "y"], advice=", see b")
    with pytest.raises(ValueError, match=r"a: times in ms \(t_ms\), allowed: microseconds or seconds"):
        find_names("a", ["x", "y", "p", "t_ms"])
    with pytest.raises(ValueError, match="c19 and 5 more; required"):
        find_names("a", [f"c{k}" for k in range(25)])


def test_the_setting():
    assert parse_columns("t, x,y,p") == ("t", "x", "y", "p")
    assert parse_columns("id,ts,x,y,polarity") == ("id", "ts", "x", "y", "polarity")


@pytest.mark.parametrize("text", ["", "t,x,y", "t,x,y,z", "t,x,y,p,p", "t,ts,x,y,p", "t x y p"])
def test_settings_that_are_refused(text):
    with pytest.raises(ValueError, match=f"data.event_columns: got '{text}', allowed: the names of all columns"):
        parse_columns(text)
