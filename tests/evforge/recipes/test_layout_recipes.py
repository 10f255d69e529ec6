import pytest

from detector.config import Config
from detector.config.extensions import LAYOUTS
from detector.data.layouts import find_layout
from evforge.recipes import RECIPES as FILES
from evforge.recipes import find_config

RECIPES = {name: find_layout(name).recipe for name in LAYOUTS if find_layout(name).recipe}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_of_a_layout_selects_classes_of_the_layout_and_names_its_sources(name):
    layout, recipe = find_layout(name), RECIPES[name]
    config = Config.load(find_config(recipe))
    assert config.data.classes
    assert set(config.data.classes) <= set(layout.names.values())
    text = FILES[recipe].read_text()
    assert f"evforge build --layout {name} " in text
    assert "# Sources: [P]" in text
    assert "[E]" in text


@pytest.mark.parametrize(
    ("name", "delta_t", "filters", "skip_us", "empty_frames"),
    [
        ("rvt_gen1", 50_000, (30, 10), 500_000, "ignore"),
        ("rvt_1mpx", 50_000, (30, 10), 500_000, "ignore"),
        ("dsec_det", 50_000, (15, 10), 0, "ignore"),
        ("etram", 50_000, (30, 10), 500_000, "ignore"),
        ("fred", 33_333, (0, 0), 0, "count"),
        ("pedro", 40_000, (0, 0), 0, "count"),
        ("mevdt", 41_667, (0, 0), 0, "count"),
    ],
)
def test_the_protocols(name, delta_t, filters, skip_us, empty_frames):
    config = Config.load(find_config(name))
    data = config.data
    assert (data.delta_t, data.skip_us, config.eval.empty_frames) == (delta_t, skip_us, empty_frames)
    assert (data.min_box_diag, data.min_box_side) == filters
