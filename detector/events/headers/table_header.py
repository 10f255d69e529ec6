"""The beginning of a table of events in a text file: comments, names of columns, sensor size.

Comments are lines that begin with # or %. A comment may contain the names of the columns or the sensor size, as in
Metavision's `%geometry:640,480`. Otherwise, the first line that is no comment may contain the names. faery writes the
sensor size into the names: `t,x@640,y@480,on`. Source: files of faery 0.7.1 and of metavision_file_to_csv (Prophesee).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from detector.events.headers.column_names import known_names

__all__ = ["TableHeader", "is_number", "read_table_header", "split_line"]

LONGEST_LINE = 1 << 16
LONGEST_COMMENTS = 1 << 26
"""Numbers of bytes after which a line, or the comments, are not text of a table."""

BOM = b"\xef\xbb\xbf"
GEOMETRY = re.compile(r"\bgeometry\s*[:=\s]\s*(\d{1,9})\s*[x,;\s]\s*(\d{1,9})\b", re.IGNORECASE)
SIDES = {side: re.compile(rf"\b{side}\s*[:=\s]\s*(\d{{1,9}})\b", re.IGNORECASE) for side in ("height", "width")}
VALUE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf)|true|false", re.IGNORECASE)
NAMED_SIDE = re.compile(r"@(\d{1,9})\W*$")


@dataclass(frozen=True)
class TableHeader:
    """The beginning of a table.

    Args:
        names: names of the columns, None if the table has no names
        sensor_size: (height, width) in pixels, None if the table does not contain them
        size: number of bytes before the first row
        line: the first row, empty if the table has no rows
    """

    names: tuple[str, ...] | None
    sensor_size: tuple[int, int] | None
    size: int
    line: str

    @property
    def row(self) -> tuple[str, ...]:
        """Entries of the first row, empty if the table has no rows."""
        return split_line(self.line) if self.line else ()

    @property
    def delimiter(self) -> str | None:
        """Comma, semicolon or tab; None if entries are separated by blanks."""
        return _delimiter(self.line)


def read_table_header(path: Path) -> TableHeader | None:
    """Read the beginning of a table. Return None if the file is not a table of at least four columns."""
    comments: list[str] = []
    names: tuple[str, ...] | None = None
    first = ""
    with path.open("rb") as file:
        size = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(size)
        while size < LONGEST_COMMENTS and (line := _read_line(file)) is not None:
            entries = split_line(line)
            if not line.strip() or line.lstrip()[0] in "#%":
                comments.append(line.strip())
            elif all(map(is_number, entries)):
                first = line
                break
            elif names is None:
                names = entries
            else:
                return None
            size = file.tell()
        if not first and file.read(1):
            return None  # the next line is no text
    return _checked(comments, names, first, size)


def split_line(line: str) -> tuple[str, ...]:
    """Return the entries of a line, without quotes. They are separated by commas, semicolons, tabs or blanks."""
    delimiter = _delimiter(line)
    entries = [entry.strip().strip("\"'").strip() for entry in line.strip().split(delimiter)]
    while len(entries) > 1 and not entries[-1]:
        entries.pop()  # a delimiter at the end of the line
    return tuple(entries)


def is_number(text: str) -> bool:
    """Return True if an entry of a table is a number, True or False."""
    return VALUE.fullmatch(text) is not None


def _read_line(file: BinaryIO) -> str | None:
    """Read a line. Return None at the end of the file, or if the line is too long or no text."""
    raw = file.readline(LONGEST_LINE)
    if len(raw) == LONGEST_LINE or not raw:
        file.seek(-len(raw), 1)
        return None
    try:
        line = raw.decode()
    except UnicodeDecodeError:
        line = raw.decode("latin-1")
    if any(char < " " and char not in "\t\r\n\f" for char in line):
        file.seek(-len(raw), 1)
        return None
    return line


def _delimiter(line: str) -> str | None:
    return next((mark for mark in ";,\t" if mark in line), None)


def _checked(comments: list[str], names: tuple[str, ...] | None, line: str, size: int) -> TableHeader | None:
    """Return the header if its parts belong to a table of events, otherwise None."""
    texts = [comment.lstrip("#% \t") for comment in comments]
    found = _size_in_comments(texts)
    row = split_line(line) if line else ()
    if names is None:
        named = [entries for text in texts if (entries := _names_in_comment(text))]
        names = next((entries for entries in reversed(named) if len(entries) == (len(row) or len(entries))), None)
    if names is None:
        is_table = len(row) >= 4 or (not row and found is not None and "geometry:" in _squeezed(texts))
    else:
        is_table = {"x", "y"} <= known_names(names).keys() or 4 <= len(names) == len(row)
    return TableHeader(names, found or _size_in_names(names or ()), size, line) if is_table else None


def _squeezed(texts: list[str]) -> str:
    return "".join("".join(texts).lower().split())


def _names_in_comment(text: str) -> tuple[str, ...] | None:
    """Return the names of columns in a comment such as `# t x y p` or `# columns: t, x, y, p`, None if it has none."""
    entries = split_line(text.rpartition(":")[2])
    return entries if len(known_names(entries)) == 4 else None


def _size_in_comments(texts: list[str]) -> tuple[int, int] | None:
    """Return (height, width) in comments such as `geometry:640,480` or `width: 640`, None if there are none."""
    for text in texts:
        if found := GEOMETRY.search(text):
            return int(found[2]), int(found[1])
    sides = [next((int(found[1]) for text in texts if (found := SIDES[side].search(text))), 0) for side in SIDES]
    return (sides[0], sides[1]) if all(sides) else None


def _size_in_names(names: tuple[str, ...]) -> tuple[int, int] | None:
    """Return (height, width) in faery's names `x@640` and `y@480`, None if they contain no numbers."""
    known = known_names(names)
    found = [NAMED_SIDE.search(known[name]) for name in "yx" if name in known]
    if len(found) < 2 or found[0] is None or found[1] is None:
        return None
    return int(found[0][1]), int(found[1][1])
