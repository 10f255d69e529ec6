import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.config import Config
from detector.config.class_names import check_class_names, metric_key, metric_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("traffic light", "traffic light"),
        ("Fußgänger", "Fußgänger"),
        ("行人", "行人"),
        ("small", "small"),
        ("car (parked)", "car _x28_parked_x29_"),
        ("a/b", "a_x2f_b"),
        ("../../x", "_x2e_._x2f_.._x2f_x"),
        (".", "_x2e_"),
        ("v1.5", "v1.5"),
        ("_x28_", "_x5f_x28_"),
        ("🚗", "_x1f697_"),
    ],
)
def test_metric_names_by_hand(name: str, expected: str):
    check_class_names("source", [name])
    assert metric_name(name) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="_x2f58/(.a ü", max_size=6), min_size=2, max_size=2, unique=True))
def test_two_names_never_become_one_metric(names: list[str]):
    assert metric_name(names[0]) != metric_name(names[1])


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=1, max_size=8))
def test_metric_names_are_what_mlflow_and_file_systems_take(name: str):
    key = f"ap/{metric_name(name)}"
    assert re.fullmatch(r"[/\w.\- ]*", key)
    assert len(PurePosixPath(key).parts) == 2
    assert metric_name(name) not in (".", "..")


@pytest.mark.parametrize("name", ["", " ", " car", "car ", "a\nb", "a\tb", "a\x00", "\u2028", "x" * 201, 5, None])
def test_names_that_no_file_line_or_metric_can_hold(name: object):
    with pytest.raises(ValueError, match="^label map: got the class name .*, allowed: printable text") as caught:
        check_class_names("label map", ["car", name])
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 250


def test_settings_are_checked_before_anything_starts():
    with pytest.raises(ValueError, match=r"data.classes: got the class name 'a\\nb', allowed"):
        Config().with_overrides({"data.classes": ["car", "a\nb"]})
    assert Config().with_overrides({"data.classes": ["../../x"]}).data.classes == ["../../x"]


def test_metrics_of_classes_are_told_apart():
    assert metric_key("val_mean_ap") == "val_mean_ap"
    assert metric_key("val_ap/car") == "val_ap/car"
    assert metric_key("val_ap/a/b") == "val_ap/a_x2f_b"
    assert metric_key("val_ap/../../x") == "val_ap/_x2e_._x2f_.._x2f_x"
