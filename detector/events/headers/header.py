"""Detection of the format of a recording from its content, and the text headers of DAT and RAW recordings.

The file name is not used. DAT and RAW files begin with text lines `% key value`. HDF5, NPY, NPZ and AEDAT4 files begin
with a signature. Tables are described in `table_header`.

Cameras write the encoding and the sensor size in different ways, depending on their version. Examples are
`% format EVT3;height=720;width=1280`, `% evt 3.0`, `% geometry 1280x720` and `% Height 720`. Some headers contain only
`% system_ID`, the id of the camera model. Text is latin-1 or UTF-8. It ends at `% end` in RAW files, or else before the
first line without %.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

from detector.events.headers.file_kinds import describe, unreadable
from detector.events.headers.table_header import read_table_header

__all__ = ["Header", "has_signature", "read_header", "read_text_header"]

HDF5_PLACES = (0, 512, 1024, 2048)
"""Positions of the signature of an HDF5 file. Bytes before it belong to other programs, such as MATLAB."""

SIGNATURES = {"HDF5": b"\x89HDF\r\n\x1a\n", "NPY": b"\x93NUMPY", "NPZ": b"PK\x03\x04", "AEDAT4": b"#!AER-DAT4"}
"""For each format with a signature, its bytes. NPZ files are zip archives."""

LONGEST_LINE = 1 << 20
LONGEST_HEADER = 1 << 26
"""Numbers of bytes after which a line, or all lines together, are not a text header."""

SHORTEST_LINE = 4
"""Smallest number of characters of a header line, so that few data bytes look like a line."""

ENCODINGS = {"2.0": "EVT2", "2.1": "EVT2.1", "3.0": "EVT3", "EVT21": "EVT2.1"}
"""Names of encodings by the value of `% evt` or `% format`, where both differ."""

# Values of system_ID for each sensor size, for old headers without a size.
# Source: OpenEB, hal_psee_plugins, device_system_id.h (Apache-2.0).
VGA_SYSTEMS = {0x15, 0x17, 0x97, 0x19, 0x99, 0x1C, 0x1D, 0x21, 0xA1, 0x22, 0xA2, 0x23, 0x28, 0x29}
HD_SYSTEMS = {0x1A, 0x9A, 0x1E, 0x1F, 0x20, 0x27, 0x2E, 0x30}


@dataclass(frozen=True)
class Header:
    """Format, text fields and length of the header of a recording.

    Args:
        format: DAT, EVT2, EVT2.1, EVT3, HDF5, NPY, NPZ, AEDAT4, CSV, or the name of another encoding in a RAW header
        fields: values of the `% key value` lines by key, keys in lower case
        size: length of the text header in bytes, 0 in formats without a text header
    """

    format: str
    fields: dict[str, str]
    size: int

    @property
    def has_encoding(self) -> bool:
        """Whether the header states the encoding, as headers of RAW recordings do."""
        return bool(self.fields.get("format") or "evt" in self.fields)

    def options(self) -> dict[str, str]:
        """Return all header fields as a dict, including the `key=value` entries of a line `% format NAME;key=value`."""
        fields = dict(self.fields)
        for entry in fields.get("format", "").split(";")[1:]:
            key, _, value = entry.partition("=")
            fields.setdefault(key.strip().lower(), value.strip())
        return fields

    def sensor_size(self) -> tuple[int, int] | None:
        """Return (height, width) in pixels, or None if the header does not determine them.

        If the header contains no size, it is derived from the id of the camera model.
        """
        fields = self.options()
        geometry = re.fullmatch(r"(\d{1,9})x(\d{1,9})", fields.get("geometry", ""))
        if geometry:
            return int(geometry[2]), int(geometry[1])
        sides = [fields.get(name, "") for name in ("height", "width")]
        if all(re.fullmatch(r"\d{1,9}", side) for side in sides):
            return int(sides[0]), int(sides[1])
        system = fields.get("system_id", "")
        number = int(system) if re.fullmatch(r"\d{1,9}", system) else 0
        if number in VGA_SYSTEMS:
            return 480, 640
        return (720, 1280) if number in HD_SYSTEMS else None


def read_header(path: Path) -> Header:
    """Detect the format of a recording from its content, and return its header.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty or its format is unknown. The error says what the file looks like.
    """
    _check_file(path)
    for name in SIGNATURES:
        if has_signature(path, name) and (name != "NPZ" or _contains_arrays(path)):
            return Header(name, {}, 0)
    if describe(path):
        raise unreadable(path)
    header = read_text_header(path)
    if not header.has_encoding and read_table_header(path):
        return Header("CSV", {}, 0)
    if not header.size:
        raise unreadable(path)
    return header


def has_signature(path: Path, name: str) -> bool:
    """Return True if a file begins with the signature of the format `name`, a key of `SIGNATURES`."""
    signature = SIGNATURES[name]
    with path.open("rb") as file:
        head = file.read(HDF5_PLACES[-1] + len(signature))
    return any(head.startswith(signature, place) for place in (HDF5_PLACES if name == "HDF5" else (0,)))


def read_text_header(path: Path) -> Header:
    """Parse the `% key value` lines at the beginning of a DAT or RAW recording.

    Only text counts as a line, because the data may also begin with the byte of "%" if the line `% end` is missing.

    Returns:
        The header. If the file has no such lines, its format is "DAT" and its size is 0.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    _check_file(path)
    fields: dict[str, str] = {}
    size = 0
    with path.open("rb") as file:
        while size < LONGEST_HEADER and (line := _read_line(file)):
            size = file.tell()
            key, _, value = line[1:].strip().partition(" ")
            if key == "end":
                break
            fields[key.lower()] = value.strip()
    return Header(_format(fields), fields, size)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, allowed: the file of a recording")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such recording")


def _contains_arrays(path: Path) -> bool:
    """Return True if a zip archive contains NPY arrays. If the archive is truncated, its first entry decides."""
    try:
        with ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (BadZipFile, ValueError, NotImplementedError, EOFError, OSError):
        with path.open("rb") as file:
            head = file.read(30)
            return file.read(int.from_bytes(head[26:28], "little")).endswith(b".npy")


def _read_line(file: BinaryIO) -> str | None:
    """Read a line of a text header. Return None if the next bytes are no such line.

    A line is a %, at most one blank, a letter or a digit, and then printable characters. It may also be empty after the
    %. In latin-1 most bytes are printable. Therefore, at least half of the characters of a line that is not UTF-8 must
    be ASCII.
    """
    if file.read(1) != b"%":
        return None
    raw = b"%" + file.readline(LONGEST_LINE)
    if not raw.endswith(b"\n"):
        return None
    try:
        line = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        line = raw.decode("latin-1").rstrip("\r\n")
        if 2 * sum(char.isascii() for char in line) < len(line):
            return None
    plain = re.sub("[\t\xa0\xad]", " ", line)
    filled = re.match(r"% ?\w", plain) is not None and len(plain) >= SHORTEST_LINE
    return line if plain.isprintable() and (filled or not plain.strip("% ")) else None


def _format(fields: dict[str, str]) -> str:
    """Return the encoding in the fields of a header, such as "EVT3"; "DAT" if they contain no encoding."""
    name = fields.get("format", "").partition(";")[0].upper()
    if name:
        return ENCODINGS.get(name, name)
    return ENCODINGS.get(fields["evt"], f"EVT {fields['evt']}") if "evt" in fields else "DAT"
