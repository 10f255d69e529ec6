"""Recipes: YAML files with settings for a kind of dataset, found by name (`--config pedestrians`).

Does not belong here: search spaces (`tune_spaces/`).
"""

from difflib import get_close_matches
from pathlib import Path

__all__ = ["RECIPES", "find_config"]

RECIPES = {recipe.stem: recipe for recipe in sorted(Path(__file__).parent.glob("*.yaml"))}
"""Files of all recipes by name."""


def find_config(name: str | Path) -> Path:
    """Find a configuration file by its path or by the name of a recipe.

    Raises:
        FileNotFoundError: there is no such file or recipe.
    """
    if Path(name).is_file():
        return Path(name)
    if str(name) not in RECIPES:
        if Path(name).is_dir():
            raise ValueError(f"{name}: is a folder, allowed: a YAML file, or a recipe: {', '.join(RECIPES)}")
        close = get_close_matches(str(name), RECIPES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"recipes: {', '.join(RECIPES)}"
        raise FileNotFoundError(f"{name}: no such configuration file or recipe, {hint}")
    return RECIPES[str(name)]
