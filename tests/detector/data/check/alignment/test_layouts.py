import numpy as np
import pytest

from detector.data.check.alignment.layouts import STORED, all_layouts

SIZE = (40, 100)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("as stored", (10, 4, 20, 8)),
        ("mirrored in x", (70, 4, 20, 8)),
        ("mirrored in y", (10, 28, 20, 8)),
        ("rotated by 180 degrees", (70, 28, 20, 8)),
        ("x and y swapped", (4, 10, 8, 20)),
        ("all values times 2", (20, 8, 40, 16)),
        ("all values times 0.5", (5, 2, 10, 4)),
        ("x, y are centres", (0, 0, 20, 8)),
        ("w, h times 2", (10, 4, 40, 16)),
        ("w, h times 2 around the centre", (0, 0, 40, 16)),
        ("w, h times 0.5", (10, 4, 10, 4)),
        ("w, h times 0.5 around the centre", (15, 6, 10, 4)),
    ],
)
def test_layouts_by_hand(name, expected):
    assert all_layouts(SIZE)[name](np.array([[10.0, 4, 20, 8]])).tolist() == [list(expected)]


@pytest.mark.parametrize("factor", [1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 4 / 3, 3 / 2, 2, 3, 4])
def test_factors_of_all_values(factor):
    change = all_layouts(SIZE)[f"all values times {factor:.4g}"]
    assert change(np.array([[12.0, 24, 36, 48]])) == pytest.approx(np.array([[12.0, 24, 36, 48]]) * factor)


def test_the_first_layout_is_no_change():
    assert next(iter(all_layouts(SIZE))) == STORED


def test_boxes_of_another_resolution():
    layouts = all_layouts((240, 304))
    names = [name for name in layouts if name.startswith("scaled from")]
    assert names == [
        f"scaled from {size} px to the sensor"
        for size in ("240 x 180", "346 x 260", "640 x 480", "1280 x 720", "1920 x 1080")
    ]
    found = layouts["scaled from 640 x 480 px to the sensor"](np.array([[64.0, 60, 32, 24]]))
    assert found.tolist() == [pytest.approx([30.4, 30, 15.2, 12])]
    # Half and a quarter of the size are tried anyway, and no scale twice.
    assert "scaled from 1280 x 720 px to the sensor" not in all_layouts((360, 640))
    assert "scaled from 304 x 240 px to the sensor" not in layouts
