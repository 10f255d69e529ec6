"""Recipes: YAML files with settings for a kind of dataset, found by name (`--config pedestrians`).

Does not belong here: search spaces (`tune_spaces/`).
"""

from pathlib import Path

__all__ = ["find_config"]

FOLDER = Path(__file__).parent


def find_config(name: str | Path) -> Path:
    """Find a configuration file by its path or by the name of a recipe.

    Raises:
        FileNotFoundError: there is no such file or recipe.
    """
    recipes = {recipe.stem: recipe for recipe in sorted(FOLDER.glob("*.yaml"))}
    if Path(name).is_file():
        return Path(name)
    if str(name) not in recipes:
        allowed = f"a YAML file, or a recipe: {', '.join(recipes)}"
        raise FileNotFoundError(f"{name}: no such configuration file, allowed: {allowed}")
    return recipes[str(name)]
