"""`Layout`, the interface of the layout of a public dataset."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detector.config.checks import require
from detector.config.extensions import LAYOUTS
from detector.data.builder.source import Source

__all__ = ["Layout", "check_found", "find_layout", "hold_out", "natural_order"]

HELD_OUT = 10
"""Of a training split without a validation split, one in this many recordings becomes the validation split."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Files, splits and classes of a public dataset. It has either `find` or `convert`.

    Args:
        names: dict from the class ids of the dataset to names
        source: address or paper that describes the dataset
        recipe: name of the recipe with the published protocol; None if there is no recipe
        find: function that returns the recordings in a folder with their labels and splits
        convert: function of a dataset that contains tensors instead of recordings. It writes the tensor files and label
            files of a dataset folder. Its arguments are the folder, the dataset folder and whether to show the progress

    Both functions raise a FileNotFoundError or ValueError that states what is expected if a folder has another layout.
    """

    names: Mapping[int, str]
    source: str
    recipe: str | None = None
    find: Callable[[Path], list[Source]] | None = None
    convert: Callable[[Path, Path, bool], None] | None = None

    def __post_init__(self) -> None:
        found = [name for name in ("find", "convert") if getattr(self, name)]
        require(len(found) == 1, "layout", " and ".join(found) or "no function", "one of find and convert")


def find_layout(name: str) -> Layout:
    """Return the layout with a name in `LAYOUTS` or an import path.

    Raises:
        ValueError: the layout does not exist or is not a `Layout`.
    """
    found = LAYOUTS[name]
    if not isinstance(found, Layout):
        raise ValueError(f"{LAYOUTS.key}: {name} is a {type(found).__name__}, allowed: a Layout")
    return found


def check_found(folder: Path, sources: Iterable[Source], expected: str) -> list[Source]:
    """Return `sources` as a list.

    Args:
        folder: folder of the dataset.
        sources: the recordings that were found.
        expected: paths of the files of this layout, for the error message.

    Raises:
        FileNotFoundError: the folder does not exist or no recording was found.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder, expected: a folder with {expected}")
    found = list(sources)
    if not found:
        raise FileNotFoundError(f"{folder}: no recordings of this layout, expected: {expected}")
    return found


def hold_out(sources: Sequence[Source]) -> list[Source]:
    """Return `sources` with every tenth training recording moved to the validation split, for datasets without one.

    The test split, and a dataset that has a validation split, are not changed.
    """
    if any(source.split == "val" for source in sources):
        return list(sources)
    train = [source for source in sources if source.split == "train"]
    held = {source.recording for source in train[HELD_OUT - 1 :: HELD_OUT] or train[1:][-1:]}
    return [replace(source, split="val") if source.recording in held else source for source in sources]


def natural_order(path: Path) -> list[int | str]:
    """Sort key of paths whose names contain numbers: 2 comes before 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
