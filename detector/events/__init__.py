"""Event recordings: readers, writers and their dtypes; `open_events` opens any of them.

Formats are in `prophesee/` (words of a camera) and `containers/` (HDF5, tables). Does not belong here: label files.
"""

from collections.abc import Callable
from pathlib import Path

from detector.config.checks import require
from detector.events.containers.hdf5 import Hdf5Reader, write_hdf5
from detector.events.containers.tabular import TableReader
from detector.events.faults import MAX_FAULTY, Faults
from detector.events.header import Header, read_header
from detector.events.prophesee.dat import DatReader, write_dat
from detector.events.prophesee.evt2 import Evt2Reader, write_evt2
from detector.events.prophesee.evt3 import Evt3Reader, write_evt3
from detector.events.prophesee.evt21 import Evt21Reader
from detector.events.reader import EventReader
from detector.events.types import BBOX_dtype, EventCD, EventExtTrigger

__all__ = [
    "READERS",
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

READERS: dict[str, Callable[[Path, Header, int | None, int | None], EventReader]] = {
    "DAT": DatReader,
    "EVT2": Evt2Reader,
    "EVT2.1": Evt21Reader,
    "EVT3": Evt3Reader,
    "HDF5": Hdf5Reader,
    "NPY": TableReader,
    "CSV": TableReader,
}
"""Reader of each format."""


def open_events(
    path: str | Path,
    height: int | None = None,
    width: int | None = None,
    *,
    max_faulty_events: float = MAX_FAULTY,
) -> EventReader:
    """Open a recording; its format is found by its content, whatever its name.

    Args:
        path: the recording.
        height: sensor height in pixels, for files that lack it.
        width: sensor width in pixels, for files that lack it.
        max_faulty_events: largest part of the events that may be faulty (`EventReader.faults`) before reading is
            refused; 10 events always may, unless this is 0.

    Returns:
        A reader, to be used in a `with` block or closed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no recording, none that can be read, broken, or its sensor size is unknown.
    """
    require(0 <= max_faulty_events <= 1, "max_faulty_events", max_faulty_events, "a number from 0 to 1")
    path = Path(path)
    header = read_header(path)
    if header.format not in READERS:
        raise ValueError(f"{path}: the format is {header.format}, readable are: {', '.join(READERS)}")
    reader = READERS[header.format](path, header, height, width)
    reader.max_faulty_events = max_faulty_events
    return reader
