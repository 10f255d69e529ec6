"""FRED: drones in front of a fixed camera (Prophesee EVK4, 1280x720 pixels), 7 hours.

::

    train/0/Event/events.hdf5      events with the ECF filter; events.raw in the archive at Google Drive
    train/0/coordinates.txt        lines `time: x1, y1, x2, y2, id, model of the drone`
    test/100/...

`coordinates.txt` contains the boxes in pixels of the event camera, which the authors recommend; `coordinates_rgb.txt`
without the padded area of the RGB images is not used. Times are in seconds from the start of the recording: label k is
at k * 33.333 ms, the end of the event frame k, and frames are labelled at 30 Hz. The cameras were synchronized at the
start of a recording only; a user measured a drift of 23 ms at the end of one (issue 8).

The archive at Google Drive has the sequences without folders of splits. The canonical split is then used. FRED has no
validation split: every tenth training sequence becomes one.

Source: README.md and dataset_splits/canonical of github.com/miccunifi/FRED (read in the copy dekelcohen/FRED).
"""

from collections.abc import Iterator
from pathlib import Path

from detector.data.builder.source import Source
from detector.data.layout import SPLITS
from detector.data.layouts.layout import Layout, check_found, hold_out, natural_order
from detector.labels import LabelTiming

__all__ = ["FRED"]

EXPECTED = "train/ and test/ with NUMBER/Event/events.hdf5 (or events.raw) and NUMBER/coordinates.txt"

TEST = (
    "8 9 12 20 21 29 34 39 41 46 51 60 63 64 65 80 83 90 93 110 111 114 115 127 128 129 138 139 142 152 153 154 162 "
    "163 167 178 179 187 194 195 196 202 210 217 219 223 230"
)
"""Sequences of the canonical test split. The other sequences of 0 to 230 are the training split."""

EVENT_FILES = ("Event/events.hdf5", "Event/events.raw")


def _find(folder: Path) -> list[Source]:
    return hold_out(check_found(folder, _sources(folder), EXPECTED))


def _sources(folder: Path) -> Iterator[Source]:
    splits = [split for split in SPLITS if (folder / split).is_dir()]
    test = TEST.split()
    for parent in [folder / split for split in splits] or [folder]:
        for sequence in sorted(parent.glob("[0-9]*"), key=natural_order):
            events = next((sequence / name for name in EVENT_FILES if (sequence / name).is_file()), None)
            if events is not None:
                yield Source(
                    events,
                    split=parent.name if splits else "test" if sequence.name in test else "train",
                    name=sequence.name,
                    labels=sequence / "coordinates.txt",
                    label_format="fred",
                    timing=LabelTiming("s"),
                    sensor=(720, 1280),
                )


FRED = Layout(
    find=_find,
    names={0: "drone"},
    recipe="fred",
    source="Magrini et al., ACM Multimedia 2025, arXiv 2506.05163; github.com/miccunifi/FRED",
)
"""FRED with one class for all models of drones, as in the code of its authors (`src/data/data.py`)."""
