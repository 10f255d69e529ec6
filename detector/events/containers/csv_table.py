"""Reader of event tables in text files.

A line contains one event, as numbers separated by commas, semicolons, tabs or blanks. Polarities may be True and False,
and values may be quoted. Lines before the first row may contain comments, the sensor size and the names of the columns,
see `detector.events.headers.table_header`. Without names, the order of the columns is found as in `column_order`.

Times are in the unit after the name of their column, as in `t_ns` or `time [s]`. Without a unit, they are seconds if
any of the first 65536 times has a fraction, or if they are written with a decimal point and another column is not.
Otherwise they are microseconds.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np

from detector.events.containers.array import ArrayReader
from detector.events.containers.chunked import has_fraction
from detector.events.containers.column_order import check_names, find_order
from detector.events.headers.column_names import OPTION, find_names, known_names, time_unit
from detector.events.headers.file_kinds import unreadable
from detector.events.headers.sensor_size import sensor_size
from detector.events.headers.table_header import TableHeader, is_number, read_table_header, split_line

__all__ = ["CsvReader"]

PER_MICROSECOND = {"ns": 1000, "us": 1, "ms": 0.001}
"""Units of times, other than seconds, that correspond to one microsecond."""

UNITS = (None, *PER_MICROSECOND, "s")

LONGEST_LINE = 1 << 16

WORDS = re.compile(r"\b(true|false)\b", re.IGNORECASE)


class CsvReader(ArrayReader):
    """Reads text files of events. The constructor reads the whole file.

    Args:
        path: path of the recording.
        height: sensor height in pixels, for files that do not contain it.
        width: sensor width in pixels, for files that do not contain it.
        event_columns: order of the columns of a table without names, such as "t,x,y,p"; None to use the values.

    Raises:
        ValueError: the file is broken, its columns cannot be identified, or the sensor size is unknown.
    """

    def __init__(
        self, path: Path, height: int | None = None, width: int | None = None, event_columns: str | None = None
    ) -> None:
        header = read_table_header(path)
        if header is None:
            raise unreadable(path, "not a readable table")
        size = sensor_size(path, header.sensor_size, height, width)  # checked before the text is read, which takes long
        names = header.names
        if names is not None and event_columns is not None and len(known_names(names)) < 4:
            names = None  # the names are not known, so the setting replaces them
        places = list(range(len(header.row) or 4))
        if names is not None:
            found = find_names(path, names, UNITS, f", or --{OPTION} with the name of each column")
            check_names(path, names, event_columns)
            places = [names.index(name) for name in found]
        table, truncated = _read_rows(path, header, places)
        order = range(4) if names else find_order(path, table, size, event_columns, known=_notation(header.row))
        columns = [table[:, place] for place in order]
        unit = time_unit(found[-1]) if names is not None else None
        if unit in PER_MICROSECOND:
            columns[3] = np.rint(columns[3] / PER_MICROSECOND[unit])
        points = ["." in header.row[places[place]] for place in order] if header.row else [False]
        seconds = has_fraction(columns[3]) or (points[-1] and not all(points))
        super().__init__(path, columns, *size, seconds=unit == "s" or (unit is None and seconds), truncated=truncated)


def _notation(row: Sequence[str]) -> dict[int, str]:
    """Return a dict from positions to p for the column of True and False, and t for the only one with a point."""
    words = {place: "p" for place, text in enumerate(row) if WORDS.fullmatch(text)}
    points = [place for place, text in enumerate(row) if "." in text]
    return {**words, points[0]: "t"} if len(points) == 1 else words


def _read_rows(path: Path, header: TableHeader, places: Sequence[int]) -> tuple[np.ndarray, int]:
    """Read the columns at `places` of all rows.

    Returns:
        An array of shape (N, number of places); 1 if the last line is truncated, otherwise 0.
    """
    if not header.row:
        return np.empty((0, len(places))), 0
    end = _end_of_rows(path, header)
    try:
        with path.open("rb") as file:
            file.seek(header.size)
            rows = file if end is None else BytesIO(file.read(end - header.size))
            lines = TextIOWrapper(rows, encoding="latin-1")
            table = np.loadtxt(
                _numbers(lines) if WORDS.search(header.line) else lines,
                delimiter=header.delimiter,
                usecols=places,
                ndmin=2,
                quotechar=next((mark for mark in "\"'" if mark in header.line), None),
            )
    except ValueError as error:
        raise ValueError(f"{path}: not a readable table: {' '.join(str(error).split())}") from None
    return table, int(end is not None)


def _numbers(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines with 1 and 0 in place of True and False."""
    return (WORDS.sub(lambda word: "1" if word[0] in ("True", "true", "TRUE") else "0", line) for line in lines)


def _end_of_rows(path: Path, header: TableHeader) -> int | None:
    """Return the position at which the last line begins if this line is truncated, otherwise None.

    A last line is truncated if it has no line end, and has fewer values than the first row or ends in no number.
    """
    size = path.stat().st_size
    start = max(header.size, size - LONGEST_LINE)
    with path.open("rb") as file:
        file.seek(start)
        tail = file.read()
    begin = max(tail.rfind(b"\n"), tail.rfind(b"\r")) + 1
    values = split_line(tail[begin:].decode("latin-1"))
    whole = len(values) >= len(header.row) and is_number(values[-1])
    if begin in (0, len(tail)) or whole or not any(values) or values[0].startswith("#"):
        return None
    return start + begin
