import pytest

from detector.config import Config
from detector.data.label_map import class_names, parse_label_map, read_label_map


def test_classes_come_from_the_label_map(tmp_path):
    (tmp_path / "label_map_dictionary.json").write_text('{"1": "car", "0": "pedestrian", "7": "empty"}')
    config = Config().with_overrides({"data.dataset_path": str(tmp_path)})
    assert class_names(config.data) == ["pedestrian", "car"]
    assert class_names(config.with_overrides({"data.classes": ["car"]}).data) == ["car"]


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": "car"}'])
def test_broken_label_map(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match="m.json: not a label map"):
        read_label_map(tmp_path / "m.json")


def test_label_map_of_a_text():
    assert parse_label_map('{"1": "car", "0": "bus"}', "--label_map") == {0: "bus", 1: "car"}
    with pytest.raises(ValueError, match="--label_map: not a label map"):
        parse_label_map("{", "--label_map")
