import pytest

from detector.config import Config
from detector.data.label_map import class_names, parse_label_map, read_label_map


def test_classes_come_from_the_label_map(tmp_path):
    (tmp_path / "label_map_dictionary.json").write_text('{"1": "car", "0": "pedestrian", "7": "empty"}')
    config = Config().with_overrides({"data.dataset_path": str(tmp_path)})
    assert class_names(config.data) == ["pedestrian", "car"]
    assert class_names(config.with_overrides({"data.classes": ["car"]}).data) == ["car"]


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "{",
        '{"a": "car"}',
        '{"1.0": "car"}',
        '{"1_0": "car"}',
        '{"car": 0}',
        "3",
        "null",
        "NaN",
        '[["0", "car"]]',
    ],
)
def test_broken_label_map(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match="m.json: not a label map"):
        read_label_map(tmp_path / "m.json")


def test_a_missing_label_map_shows_what_one_contains(tmp_path):
    with pytest.raises(
        FileNotFoundError, match='person: no such label map, which is a JSON file .*{"0": "pedestrian"}'
    ):
        read_label_map(str(tmp_path / "person"))


def test_label_map_of_a_text():
    assert parse_label_map('{"1": "car", "0": "bus"}', "--label_map") == {0: "bus", 1: "car"}
    assert parse_label_map('{"999999": "car"}', "--label_map") == {999_999: "car"}
    with pytest.raises(ValueError, match="--label_map: not a label map"):
        parse_label_map("{", "--label_map")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"0": "car", "1": "car"}', r"classes are \{0: 'car', 1: 'car'\}, allowed: distinct names for ids from 0 to"),
        ('{"-1": "car"}', r"classes are \{-1: 'car'\}, allowed: distinct names for ids from 0 to 999999"),
        ('{"1000000": "car"}', "classes are .*allowed: distinct names for ids from 0 to 999999"),
        ('{"4294967295": "car"}', "classes are .*allowed: distinct names for ids from 0 to 999999"),
        ('{"0": "car", "0": "bus"}', "class id 0 has several names, allowed: one name per id"),
        ('{"0": "car", "00": "bus"}', "class id 0 has several names"),
        ('{"0": ""}', "got the class name '', allowed: printable text"),
        ('{"0": "a\\nb"}', r"got the class name 'a\\nb', allowed"),
        ('{"0": " car"}', "got the class name ' car', allowed"),
        ('{"0": null}', "got the class name None, allowed"),
        ('{"0": ["car"]}', r"got the class name \['car'\], allowed"),
    ],
)
def test_label_maps_whose_ids_or_names_cannot_be_used(tmp_path, text: str, message: str):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match=f"m.json: {message}") as caught:
        read_label_map(tmp_path / "m.json")
    assert "\n" not in str(caught.value)


def test_label_maps_are_utf_8_with_or_without_a_mark(tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "m.json").write_bytes('{"0": "Fußgänger (Straße)", "1": "background"}'.encode(encoding))
        assert read_label_map(tmp_path / "m.json") == {0: "Fußgänger (Straße)", 1: "background"}
    (tmp_path / "m.json").write_bytes('{"0": "Fußgänger"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="m.json: not a label map"):
        read_label_map(tmp_path / "m.json")
