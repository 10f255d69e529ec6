"""Readers and writers of event recordings, and dtypes of events. `open_events` opens a recording of any format.

The formats are in `prophesee/` (encodings of cameras) and `containers/` (HDF5, arrays, tables). Does not belong here:
label files.
"""

from pathlib import Path

from detector.config.checks import require
from detector.config.extensions import EVENT_FORMATS
from detector.events.containers.array import ArrayReader
from detector.events.containers.hdf5 import write_hdf5
from detector.events.faults import MAX_FAULTY, Faults
from detector.events.header import read_header
from detector.events.prophesee.dat import write_dat
from detector.events.prophesee.evt2 import write_evt2
from detector.events.prophesee.evt3 import write_evt3
from detector.events.reader import EventReader
from detector.events.types import BBOX_dtype, EventCD, EventExtTrigger

__all__ = [
    "ArrayReader",
    "BBOX_dtype",
    "EventCD",
    "EventExtTrigger",
    "EventReader",
    "Faults",
    "open_events",
    "write_dat",
    "write_evt2",
    "write_evt3",
    "write_hdf5",
]


def open_events(
    path: str | Path,
    height: int | None = None,
    width: int | None = None,
    *,
    max_faulty_events: float = MAX_FAULTY,
    event_format: str = "auto",
) -> EventReader:
    """Open a recording and return its reader.

    Args:
        path: path of the recording.
        height: sensor height in pixels, for files that do not contain it.
        width: sensor width in pixels, for files that do not contain it.
        max_faulty_events: largest accepted share of faulty events (outside the sensor or out of order in time), from 0
            to 1. If more events are faulty, reading raises a ValueError. With 0, no faulty event is accepted. With a
            share above 0, ten faulty events are accepted even in a short recording.
        event_format: "auto" detects the format from the content of the file and ignores the file name. A name in
            `EVENT_FORMATS` or an import path `mylab.module:Name` selects a reader, regardless of the content. The
            object at the import path is called as `f(path: Path, height: int | None, width: int | None)` and must
            return an `EventReader`. The simplest `EventReader` is `detector.events.ArrayReader`.

    Returns:
        A reader. Use it in a `with` block, or call its `close` method.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the format is unknown, the file is broken, or the sensor size is unknown.
    """
    require(0 <= max_faulty_events <= 1, "max_faulty_events", max_faulty_events, "a number from 0 to 1")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such recording")
    if event_format == "auto":
        event_format = read_header(path).format
        if event_format not in EVENT_FORMATS:
            raise ValueError(
                f"{path}: the format is {event_format}, which has no reader, "
                f"allowed in {EVENT_FORMATS.key}: {EVENT_FORMATS.allowed}"
            )
    open_reader = EVENT_FORMATS[event_format]
    try:
        reader = open_reader(path, height, width)
    except Exception as error:  # a reader of another package may raise any error
        if str(path) in str(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path}: cannot be opened as {event_format}: {reason}") from error
    if not isinstance(reader, EventReader):
        raise ValueError(
            f"{EVENT_FORMATS.key}: {event_format} returned a {type(reader).__name__}, allowed: an EventReader, such as "
            "detector.events.ArrayReader"
        )
    reader.format = event_format
    reader.max_faulty_events = max_faulty_events
    return reader
