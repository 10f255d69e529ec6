"""PEDRo: persons seen by a camera that is carried by hand (DAVIS346, 346x260 pixels).

The dataset consists of 27,000 samples of 40 ms from 119 recordings::

    numpy/train/frame0000000.npy   (N, 4) int64 events t, x, y, p; t in microseconds since 1970, p 0 or 1
    xml/train/frame0000000.xml     its boxes in Pascal VOC, class person
    numpy/val/..., numpy/test/...

Samples are numbered in order of time. Within a recording, each starts a multiple of 40 ms after the first one, but only
labelled samples are included. A stream therefore has the samples of a recording at their place in time, and frames
without events and without labels between them. A new stream begins where the time falls or more than a second is
missing, which keeps the number of files near the number of recordings. `info.txt`, the list of recordings, is not used.

The time of a stream starts at 0, and place k covers [k * 40 ms, (k + 1) * 40 ms), so that a frame of 40 ms is exactly
one sample. Labels are at the end of their sample.

Source: README.md and examples of github.com/SSIGPRO/PEDRo-Event-Based-Dataset; zenodo.org/records/13331985.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from detector.data.builder.source import Source
from detector.data.layout import SPLITS
from detector.data.layouts.layout import Layout, check_found
from detector.events.arrays import Columns
from detector.events.containers.chunked import BlockReader
from detector.events.reader import CHUNK
from detector.events.types import BBOX_dtype
from detector.labels import LabelFile, LabelFormat, LabelTiming

__all__ = ["LABELS", "PEDRO", "PedroReader"]

EXPECTED = "numpy/train/frame0000000.npy and xml/train/frame0000000.xml, and the same for val and test"

SENSOR = (260, 346)

SAMPLE_US = 40_000
"""Duration of a sample in microseconds."""

LONGEST_GAP_US = 1_000_000
"""Longest time between the starts of two samples of a stream in microseconds."""


class Sample(NamedTuple):
    """A sample and its place in a stream.

    Args:
        path: file with the events
        place: index of the frame of 40 ms that contains the sample
        start: time in the file at which the sample starts
    """

    path: Path
    place: int
    start: int


def _find(folder: Path) -> list[Source]:
    return check_found(folder, _sources(folder), EXPECTED)


def _sources(folder: Path) -> Iterator[Source]:
    for split in SPLITS:
        paths = sorted((folder / "numpy" / split).glob("frame*.npy"), key=lambda path: path.name)
        for (first, _, _), *_ in _streams(paths):
            yield Source(
                first,
                split=split,
                labels=folder / "xml" / split / f"{first.stem}.xml",
                label_format="detector.data.layouts.pedro:LABELS",
                timing=LabelTiming("us"),
                sensor=SENSOR,
                event_format="detector.data.layouts.pedro:PedroReader",
            )


def _streams(paths: Iterable[Path]) -> Iterator[list[Sample]]:
    """Divide samples, in the order of their numbers, into streams.

    A sample without events is placed directly after the previous one. At the very beginning it is left out.
    """
    stream: list[Sample] = []
    for path in paths:
        last = stream[-1] if stream else None
        found = _first_time(path)
        if found is None:
            if last is None:
                continue
            found = last.start + SAMPLE_US
        if last and not SAMPLE_US // 2 < found - last.start <= LONGEST_GAP_US:
            yield stream
            stream = []
        place = round((found - stream[0].start) / SAMPLE_US) if stream else 0
        stream.append(Sample(path, place, found))
    if stream:
        yield stream


def _stream_from(first: Path) -> list[Sample]:
    """Return the stream that begins with the sample `first`."""
    names = sorted(path.name for path in first.parent.glob("frame*.npy") if path.name >= first.name)
    return next(_streams(first.parent / name for name in names))


def _first_time(path: Path) -> int | None:
    """Return the time of the first event of a sample, None if it has no events."""
    events = _map(path)
    return int(events[0, 0]) if len(events) else None


def _map(path: Path) -> np.ndarray:
    """Map the (N, 4) events t, x, y, p of a sample into memory."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape = np.lib.format.read_array_header_1_0(file)[0]
        events = np.load(path, mmap_mode="r" if shape[0] else None, allow_pickle=False)
    except (ValueError, OSError, IndexError) as error:
        raise ValueError(f"{path}: not a complete sample: {' '.join(str(error).split())}") from None
    if events.ndim != 2 or events.shape[1] != 4:
        raise ValueError(f"{path}: array of shape {events.shape}, expected: (N, 4) events t, x, y, p")
    return events


class PedroReader(BlockReader):
    """Reads the stream of samples that begins with a file.

    Args:
        path: path of the first sample.
        height: sensor height in pixels; 260 if None.
        width: sensor width in pixels; 346 if None.

    Raises:
        ValueError: a sample is damaged.
    """

    def __init__(self, path: Path, height: int | None = None, width: int | None = None) -> None:
        self._samples = _stream_from(path)
        self._events = [_map(sample.path) for sample in self._samples]
        self._ends = np.cumsum([len(events) for events in self._events])
        super().__init__(path, height or SENSOR[0], width or SENSOR[1], int(self._ends[-1]), CHUNK)

    def _load(self, start: int, out: Columns) -> None:
        self._store(self._columns(start, start + out[0].size), out)

    def _time(self, start: int) -> int:
        return int(self._columns(start, start + 1)[3][0])

    def _columns(self, start: int, stop: int) -> list[np.ndarray]:
        """Return x, y, p, t of the events with the indices `start` to `stop - 1` of the stream."""
        parts = []
        for index in range(int(np.searchsorted(self._ends, start, "right")), len(self._samples)):
            sample, events = self._samples[index], self._events[index]
            begin = int(self._ends[index]) - len(events)
            if begin >= stop:
                break
            t, x, y, p = events[max(0, start - begin) : stop - begin].T
            # The last event of a sample is at the start of the next one.
            parts.append((x, y, p, sample.place * SAMPLE_US + np.clip(t - sample.start, 0, SAMPLE_US - 1)))
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def close(self) -> None:
        """Close the files. Arrays that were read remain valid."""
        super().close()
        self._events = []


def _read_labels(path: Path) -> LabelFile:
    """Read the labels of the stream that begins with the sample of the label file `path`."""
    stream = _stream_from(path.parents[2] / "numpy" / path.parent.name / f"{path.stem}.npy")
    rows, empty = [], []
    for sample in stream:
        end, boxes = (sample.place + 1) * SAMPLE_US, _boxes(path.with_name(f"{sample.path.stem}.xml"))
        rows += [(end, *box) for box in boxes]
        empty += [] if boxes else [end]
    names = ("t", "x", "y", "w", "h", "class_id")
    found = np.array(rows, [(name, BBOX_dtype[name]) for name in names])
    return LabelFile(found, names={0: "person"}, empty=np.array(empty, np.int64))


def _boxes(path: Path) -> list[tuple[float, float, float, float, int]]:
    """Return x, y, w, h and class id of the boxes of a sample."""
    boxes = []
    for item in ElementTree.parse(path).getroot().iter("object"):
        if item.findtext("name") != "person":
            raise ValueError(f"{path}: class {item.findtext('name')}, expected: person")
        left, top, right, bottom = (
            float(item.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        boxes.append((left, top, right - left, bottom - top, 0))
    return boxes


LABELS = LabelFormat(".xml", _read_labels)
"""Labels of a stream, given by the label file of its first sample."""

PEDRO = Layout(
    find=_find,
    names={0: "person"},
    recipe="pedro",
    source="Boretti et al., CVPR Workshops 2023; github.com/SSIGPRO/PEDRo-Event-Based-Dataset",
)
"""PEDRo, with one stream per recording or a few."""
