from pathlib import Path

import pytest

from detector.config.extensions import LAYOUTS
from detector.data.builder.source import Source
from detector.data.layouts import Layout, find_layout
from detector.data.layouts.layout import check_found, hold_out, natural_order


def sources(count, split):
    return [Source(Path(f"{split}{k}.raw"), split=split) for k in range(count)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_names_its_classes_its_source_and_a_recipe_that_selects_these_classes(name):
    layout = find_layout(name)
    assert sorted(layout.names) == list(range(len(layout.names)))
    assert layout.source
    assert len(set(layout.names.values())) == len(layout.names)


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_folder_is_refused_in_one_line_that_names_the_files(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "events.txt").touch()
    layout = find_layout(name)
    with pytest.raises(
        FileNotFoundError, match=r"^\S+/in: no (recordings|sequences) of this layout, expected: "
    ) as error:
        layout.convert(tmp_path / "in", tmp_path / "out", False) if layout.convert else layout.find(tmp_path / "in")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


STRANGE = Layout(find=lambda folder: check_found(folder, sources(2, "train"), "a"), names={3: "boat"}, source="mylab")


def test_a_layout_of_a_stranger_is_found_by_its_import_path(monkeypatch):
    monkeypatch.setattr("detector.data.layouts.layout.STRANGE", STRANGE, raising=False)
    assert find_layout("detector.data.layouts.layout:STRANGE").names == {3: "boat"}
    with pytest.raises(ValueError, match="layout: detector.data.layouts.layout:HELD_OUT is a int, allowed: a Layout"):
        find_layout("detector.data.layouts.layout:HELD_OUT")
    with pytest.raises(ValueError, match=r"layout: got 'gen2', allowed: gen1, 1mpx, .*mylab.module:Name"):
        find_layout("gen2")


def test_a_layout_has_one_of_find_and_convert():
    with pytest.raises(ValueError, match="one of find and convert"):
        Layout(names={}, source="a")
    with pytest.raises(ValueError, match="one of find and convert"):
        Layout(names={}, source="a", find=lambda folder: [], convert=lambda folder, output, progress: None)


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder, expected: a folder with b"):
        check_found(tmp_path / "a", [], "b")


@pytest.mark.parametrize(("count", "held"), [(1, []), (2, [1]), (9, [8]), (10, [9]), (19, [9]), (21, [9, 19])], ids=str)
def test_every_tenth_training_recording_is_held_out(count, held):
    found = hold_out(sources(count, "train") + sources(3, "test"))
    assert [source.split for source in found[count:]] == ["test"] * 3
    assert [k for k, source in enumerate(found[:count]) if source.split == "val"] == held


def test_a_published_validation_split_is_kept():
    given = sources(30, "train") + sources(1, "val")
    assert hold_out(given) == given


def test_numbers_are_sorted_by_value():
    assert sorted([Path("10"), Path("9"), Path("a2")], key=natural_order)[:2] == [Path("9"), Path("10")]
