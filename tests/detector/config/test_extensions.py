from collections import OrderedDict
from fractions import Fraction

import pytest

from detector.config.extensions import EXPORT_FORMS, LAYOUTS, TABLES, Table, load_object


@pytest.fixture
def table():
    return Table("data.kind", {"ordered": "collections:OrderedDict", "share": "fractions:Fraction"}, extra=("auto",))


def test_a_name_and_an_import_path_give_the_object(table):
    assert table["ordered"] is OrderedDict and table["share"] is Fraction
    assert table["math:floor"](2.7) == 2
    assert load_object("os.path:join")("a", "b") == "a/b"


def test_an_object_is_imported_at_its_first_use():
    lazy = Table("data.kind", {"gone": "no_such_module:Name"})
    assert list(lazy) == ["gone"] and "gone" in lazy and len(lazy) == 1
    with pytest.raises(ValueError, match="data.kind: got 'gone', which cannot be imported .ModuleNotFoundError: No mo"):
        lazy["gone"]


def test_extra_names_are_allowed_and_are_no_entries(table):
    table.check("auto")
    assert "auto" not in table and list(table) == ["ordered", "share"]


@pytest.mark.parametrize("name", ["shares", "", "fractions", "fractions:", ":Fraction", "a b:C", "a.b:C.d", 5, None])
def test_other_names_are_refused_with_the_allowed_ones(table, name):
    with pytest.raises(ValueError, match=r"^data.kind: got .*, allowed: auto, ordered, share, or an import path such"):
        table.check(name)


def test_an_import_path_that_was_used_is_listed_afterwards(table):
    assert "math:floor" not in table.allowed
    table["math:floor"], table["ordered"]
    assert table.allowed.startswith("auto, ordered, share, math:floor, or an import path")


def test_make_calls_the_object_with_the_arguments(table):
    assert table.make("share", 3, denominator=4) == Fraction(3, 4)


def test_an_error_of_a_built_in_object_passes_and_one_of_a_stranger_names_the_setting(table):
    with pytest.raises(ValueError, match="^Invalid literal"):
        table.make("share", "three")
    with pytest.raises(ValueError, match=r"^data.kind: got 'fractions:Fraction', which cannot be made .ValueError: In"):
        table.make("fractions:Fraction", "three")
    with pytest.raises(
        ValueError, match=r"^data.kind: got 'share', which cannot be made .ZeroDivisionError: .*allowed"
    ):
        table.make("share", 1, 0)


def test_make_from_passes_the_arguments_that_the_object_has(table):
    assert table.make_from("share", {"numerator": 6, "denominator": 8, "colour": "red"}) == Fraction(3, 4)
    with pytest.raises(ValueError, match=r"^data.kind: got 'math:pi', which cannot be called .TypeError"):
        table.make_from("math:pi", {})


def test_messages_are_one_line(table):
    error = table.error("share", "used", OSError("a\n  b"), "c")
    assert str(error) == "data.kind: got 'share', which cannot be used (OSError: a b), allowed: c"


def test_every_table_of_a_setting_is_found_by_its_key():
    assert all(key == table.key and key.count(".") == 1 for key, table in TABLES.items())
    assert TABLES["data.event_format"].extra == TABLES["data.label_format"].extra == ("auto",)


@pytest.mark.parametrize("table", [*TABLES.values(), LAYOUTS, EXPORT_FORMS], ids=lambda table: table.key)
def test_every_entry_can_be_imported(table):
    assert len(table) > 0 and all(table[name] is not None for name in table)
