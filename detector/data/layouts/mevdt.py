"""MEVDT: vehicles at two fixed cameras (DAVIS240C, 240x180 pixels), 63 sequences.

::

    sequences/train/Scene_A/SEQUENCE/SEQUENCE_events.csv                     time, x, y, polarity
    labels/tracking_labels/train/Scene_A/SEQUENCE/SEQUENCE-custom24.txt      boxes drawn by hand, at 24 Hz
    sequences/test/...

SEQUENCE is the time of the first sample. Times of events and labels are in nanoseconds since 1970. A line of a label
file is `number of the image, time`, followed by `id, left, top, width, height` of each vehicle. The same folder has
labels interpolated to higher rates; they are not used.

There is no validation split: every tenth training sequence becomes one.

Source: El Shair and Rawashdeh, Data in Brief 2024; README of deepblue.lib.umich.edu/data, doi 10.7302/d5k3-9150. The
columns are those that a reader of an earlier version of the dataset (`vdt_davis`) expects.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.data.builder.source import Source
from detector.data.layouts.layout import Layout, check_found, hold_out
from detector.events import ArrayReader
from detector.events.types import BBOX_dtype
from detector.labels import LabelFile, LabelFormat, LabelTiming

__all__ = ["LABELS", "MEVDT", "read_events"]

EXPECTED = (
    "sequences/train/Scene_A/SEQUENCE/SEQUENCE_events.csv, "
    "labels/tracking_labels/train/Scene_A/SEQUENCE/SEQUENCE-custom24.txt, and the same for test"
)


def _find(folder: Path) -> list[Source]:
    return hold_out(check_found(folder, _sources(folder), EXPECTED))


def _sources(folder: Path) -> Iterator[Source]:
    for split in ("train", "test"):
        for events in sorted((folder / "sequences" / split).glob("Scene_*/*/*_events.csv")):
            scene, name = events.parts[-3:-1]
            labels = folder / "labels" / "tracking_labels" / split / scene / name
            found = sorted(labels.glob(f"{name}*custom*24*.txt")) or [labels / f"{name}-custom24.txt"]
            yield Source(
                events,
                split=split,
                name=f"{scene}_{name}",
                labels=found[0],
                label_format="detector.data.layouts.mevdt:LABELS",
                timing=LabelTiming("us"),
                sensor=(180, 240),
                event_format="detector.data.layouts.mevdt:read_events",
            )


def read_events(path: Path, height: int | None = None, width: int | None = None) -> ArrayReader:
    """Read an event file of MEVDT. The first line may contain the names of the columns."""
    with path.open(encoding="utf-8-sig") as file:
        named = not file.readline()[:1].isdigit()
    try:
        t, x, y, p = np.loadtxt(path, np.int64, delimiter=",", skiprows=int(named), ndmin=2, usecols=range(4)).T
    except ValueError as error:
        raise ValueError(f"{path}: not a table of time, x, y, polarity: {' '.join(str(error).split())}") from None
    return ArrayReader(path, (x, y, p, t // 1000), height, width)


def _read_labels(path: Path) -> LabelFile:
    rows: list[tuple[float, ...]] = []
    empty: list[int] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        entries = [entry for entry in line.replace(",", " ").split() if entry]
        boxes = entries[2:]
        if not entries:
            continue
        if len(entries) < 2 or len(boxes) % 5:
            raise ValueError(f"line {number}: {len(entries)} entries, expected: image, time, and 5 for each vehicle")
        if not boxes:
            empty.append(int(entries[1]) // 1000)
        for start in range(0, len(boxes), 5):
            track, *box = boxes[start : start + 5]
            rows.append((int(entries[1]) // 1000, *map(float, box), 0, int(track)))
    names = ("t", "x", "y", "w", "h", "class_id", "track_id")
    found = np.array(rows, [(name, BBOX_dtype[name]) for name in names])
    return LabelFile(found, names={0: "vehicle"}, empty=np.array(empty, np.int64))


LABELS = LabelFormat("-custom24.txt", _read_labels)
"""MEVDT's own format of tracking labels."""

MEVDT = Layout(
    find=_find,
    names={0: "vehicle"},
    recipe="mevdt",
    source="El Shair and Rawashdeh, Data in Brief 2024, doi 10.1016/j.dib.2024.111205",
)
"""MEVDT with the labels at 24 Hz."""
