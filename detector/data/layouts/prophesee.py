"""Prophesee's automotive datasets Gen1 and 1 Megapixel.

Both consist of folders `train`, `val` and `test` with recordings `X_td.dat` of 60 s and their labels `X_bbox.npy`. The
archives of Gen1 unpack to folders such as `detection_dataset_duration_60s_ratio_1.0/train`. RVT's copies of both
datasets contain the same events as `X_td.dat.h5` (Gen1) and `X_td.h5` (1 Megapixel). Times of labels and events start
at 0 in each file.

Gen1 has labels at 1, 2 or 4 Hz, drawn by hand; in some files they are wrong. 1 Megapixel has labels at 30 or 60 Hz that
were made from images of a second camera: boxes may be displaced or missing (issue 40 of the toolbox), and some files
contain an event outside the sensor.

Source: github.com/prophesee-ai/prophesee-automotive-dataset-toolbox; github.com/uzh-rpg/RVT, scripts/genx/README.md.
"""

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from detector.data.builder.source import Source
from detector.data.layouts.layout import Layout, check_found
from detector.labels import LabelTiming

__all__ = ["GEN1", "ONE_MEGAPIXEL", "files_in", "recordings"]

EXPECTED = "train/, val/ and test/ with recordings X_td.dat (or X_td.dat.h5, X_td.h5) and labels X_bbox.npy"
SPLIT = re.compile(r"(train|val|test)(_\w+)?")
"""Name of a folder of a split or of a part of it, such as `train_a`."""

SUFFIXES = (".dat", ".dat.h5", ".h5")


def recordings(folder: Path, suffixes: tuple[str, ...]) -> dict[Path, Path]:
    """Find recordings `X_td.dat` in a folder and its subfolders.

    Args:
        folder: the folder.
        suffixes: suffixes of recordings, such as ".dat". Of recordings that differ in the suffix only, the one with the
            first suffix is used.

    Returns:
        Dict from the path without `_td` and suffix to the recording, in alphabetical order.
    """
    found: dict[Path, Path] = {}
    files = list(files_in(folder))
    for suffix in suffixes:
        for path in files:
            if path.name.endswith(f"_td{suffix}"):
                found.setdefault(path.with_name(path.name.removesuffix(f"_td{suffix}")), path)
    return dict(sorted(found.items()))


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders. Links to folders are followed, each folder once."""
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(root, name) for name in names)


def _find(folder: Path, sensor: tuple[int, int]) -> list[Source]:
    sources = [
        Source(
            path,
            split=split,
            name=stem.name,
            labels=stem.with_name(f"{stem.name}_bbox.npy"),
            label_format="npy",
            timing=LabelTiming("us"),
            sensor=sensor,
        )
        for stem, path in recordings(folder, SUFFIXES).items()
        if (split := _split_of(path, folder))
    ]
    return check_found(folder, sources, EXPECTED)


def _split_of(path: Path, folder: Path) -> str | None:
    """Return the split that the innermost folder with the name of a split belongs to."""
    inside = path.absolute().parent.relative_to(folder.absolute().parent)
    matches = (SPLIT.fullmatch(part) for part in reversed(inside.parts))
    return next((match[1] for match in matches if match), None)


def _finder(height: int, width: int) -> Callable[[Path], list[Source]]:
    return partial(_find, sensor=(height, width))


GEN1 = Layout(
    find=_finder(240, 304),
    names={0: "car", 1: "pedestrian"},
    recipe="gen1",
    source="de Tournemire et al., 2020, arXiv 2001.08499",
)
"""Prophesee Gen1 Automotive Detection dataset, 304x240 pixels, 39 hours."""

ONE_MEGAPIXEL = Layout(
    find=_finder(720, 1280),
    names={
        0: "pedestrian",
        1: "two wheeler",
        2: "car",
        3: "truck",
        4: "bus",
        5: "traffic sign",
        6: "traffic light",
    },
    recipe="1mpx",
    source="Perot et al., NeurIPS 2020, arXiv 2009.13436",
)
"""Prophesee 1 Megapixel Automotive Detection dataset, 1280x720 pixels, 15 hours."""
