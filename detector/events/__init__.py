"""Readers and writers of event recordings, and dtypes of events. `open_events` opens a recording of any format.

The formats are in `prophesee/` (encodings of cameras) and `containers/` (HDF5, arrays, tables), their detection in
`headers/`. Does not belong here: label files.
"""

import inspect
from pathlib import Path
from typing import Any

from detector.config.checks import require
from detector.config.extensions import EVENT_FORMATS
from detector.events.containers.array import ArrayReader
from detector.events.containers.hdf5 import write_hdf5
from detector.events.faults import MAX_FAULTY, Faults
from detector.events.headers.column_names import OPTION, parse_columns
from detector.events.headers.header import read_header
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
    event_columns: str | None = None,
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
            return an `EventReader`. The simplest `EventReader` is `detector.events.ArrayReader`. If it has an optional
            parameter `event_columns`, this argument is also passed, unless it is None.
        event_columns: names of all columns in order, such as "t,x,y,p", for CSV tables and (N, 4) arrays without names.
            If None, the order is found from the values, or the file is refused if they do not determine it.

    Returns:
        A reader. Use it in a `with` block, or call its `close` method.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the format is unknown, the file is broken, the sensor size or the order of the columns is unknown,
            or `event_columns` is given for a format with fixed fields.
    """
    require(0 <= max_faulty_events <= 1, "max_faulty_events", max_faulty_events, "a number from 0 to 1")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such recording")
    if event_format == "auto":
        event_format = _detect(path)
    open_reader = EVENT_FORMATS[event_format]
    options = _column_options(path, event_format, event_columns)
    try:
        reader = open_reader(path, height, width, **options)
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


def _detect(path: Path) -> str:
    """Return the name of the format of a recording. Raise a ValueError if there is no reader of this format."""
    name = read_header(path).format
    if name not in EVENT_FORMATS:
        raise ValueError(
            f"{path}: the format is {name}, which has no reader, allowed in {EVENT_FORMATS.key}: "
            f"{EVENT_FORMATS.allowed}"
        )
    return name


def _column_options(path: Path, event_format: str, event_columns: str | None) -> dict[str, str]:
    """Return the keyword arguments that pass `event_columns` to a reader.

    Raises:
        ValueError: `event_columns` is invalid, or the reader does not accept it.
    """
    if event_columns is None:
        return {}
    parse_columns(event_columns)
    if not _accepts(EVENT_FORMATS[event_format], "event_columns"):
        raise ValueError(
            f"{path}: {OPTION}: got {event_columns!r}, but recordings of the format {event_format} have fixed fields, "
            "allowed: no value"
        )
    return {"event_columns": event_columns}


def _accepts(function: Any, parameter: str) -> bool:
    """Return True if a function or class has this parameter."""
    try:
        return parameter in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some compiled functions have no signature
        return False
