"""Detection of the format and sensor size of a recording from its first bytes. The file name is not used.

DAT and RAW files begin with text lines `% key value`, HDF5 and NPY files begin with a signature. The first line of a
CSV table contains four numbers or the names of the columns.

Cameras write the encoding and the sensor size in different ways, depending on their version. Examples are
`% format EVT3;height=720;width=1280`, `% evt 3.0`, `% geometry 1280x720` and `% Height 720`. Some headers contain only
`% system_ID`, the id of the camera model.
"""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MAX_SIDE", "Header", "read_header", "read_text_header", "sensor_size", "split_line"]

SIGNATURES = {b"\x89HDF\r\n\x1a\n": "HDF5", b"\x93NUMPY": "NPY"}
LONGEST_HEADER = 1 << 16
ENCODINGS = {"2.0": "EVT2", "2.1": "EVT2.1", "3.0": "EVT3", "EVT21": "EVT2.1"}
"""Names of encodings by the value of `% evt` or `% format`, where both differ."""

MAX_SIDE = 1 << 16

# Values of system_ID for each sensor size, for old headers without a size.
# Source: OpenEB, hal_psee_plugins, device_system_id.h (Apache-2.0).
VGA_SYSTEMS = {0x15, 0x17, 0x97, 0x19, 0x99, 0x1C, 0x1D, 0x21, 0xA1, 0x22, 0xA2, 0x23, 0x28, 0x29}
HD_SYSTEMS = {0x1A, 0x9A, 0x1E, 0x1F, 0x20, 0x27, 0x2E, 0x30}


@dataclass(frozen=True)
class Header:
    """Format, text fields and length of the header of a recording.

    Args:
        format: DAT, EVT2, EVT2.1, EVT3, HDF5, NPY, CSV, or the name of another encoding in a RAW header
        fields: values of the `% key value` lines by key, keys in lower case
        size: length of the text header in bytes, 0 in formats without a text header
    """

    format: str
    fields: dict[str, str]
    size: int

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
    """Detect the format of a recording from its first bytes, and return its header.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty or its format is unknown.
    """
    head = _first_bytes(path)
    if not head:
        raise ValueError(f"{path}: empty file, not an event recording")
    for signature, name in SIGNATURES.items():
        if head.startswith(signature):
            return Header(name, {}, 0)
    header = _text_header(head)
    if header.size:
        return header
    if _is_table(head):
        return Header("CSV", {}, 0)
    raise ValueError(f"{path}: not an event recording: it begins with {head[:8]!r}, no known header")


def read_text_header(path: Path) -> Header:
    """Parse the `% key value` lines at the beginning of a DAT or RAW recording.

    Returns:
        The header. If the file has no such lines, its format is "DAT" and its size is 0.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    return _text_header(_first_bytes(path))


def sensor_size(path: Path, found: tuple[int, int] | None, height: int | None, width: int | None) -> tuple[int, int]:
    """Return (height, width) of the sensor in pixels, from the file or else from the caller.

    Args:
        path: path of the recording, for error messages.
        found: (height, width) in the file, None if the file does not contain them.
        height: height in pixels given by the caller, or None.
        width: width in pixels given by the caller, or None.

    Raises:
        ValueError: the size is unknown, the caller contradicts the file, or a side is below 1 or above 65536.
    """
    if found is None and (height is None or width is None):
        raise ValueError(f"{path}: the header contains no sensor size, give height and width")
    size = found or (height or 0, width or 0)
    if (height or size[0], width or size[1]) != size:
        raise ValueError(
            f"{path}: height, width: got {height}, {width}, allowed: those of the header, {size[0]}, {size[1]}"
        )
    if min(size) < 1 or max(size) > MAX_SIDE:
        raise ValueError(f"{path}: height, width: got {size[0]}, {size[1]}, allowed: at least 1, at most {MAX_SIDE}")
    return size


def split_line(line: str) -> list[str]:
    """Return the entries of a line of a table, in lower case.

    Entries are separated by commas, semicolons or blanks. A # at the start of the line is removed.
    """
    return re.split(r"\s*[,;\s]\s*", line.lstrip("# ").strip().lower())


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such recording")
    with path.open("rb") as file:
        return file.read(LONGEST_HEADER)


def _is_table(head: bytes) -> bool:
    """Return True if the first line of `head` has four or more columns.

    The columns must be either all numbers, or names that include x and y.
    """
    line = head.partition(b"\n")[0].decode("utf-8-sig", "replace")
    columns = split_line(line)
    numbers = all(re.fullmatch(r"[-+.\de]*\d[-+.\de]*", column) for column in columns)
    return len(columns) >= 4 and (numbers or {"x", "y"} <= set(columns))


def _text_header(head: bytes) -> Header:
    """Return the header that the `% key value` lines at the beginning of a file describe.

    Only printable lines count as text, because the data may also begin with the byte of "%" if the line `% end` is
    missing.

    Args:
        head: the first bytes of the file.
    """
    fields: dict[str, str] = {}
    size = 0
    while head.startswith(b"%", size) and (end := head.find(b"\n", size)) >= 0:
        try:
            line = head[size:end].decode().rstrip("\r")
        except UnicodeDecodeError:
            break
        if not line.replace("\t", " ").isprintable():
            break
        size = end + 1
        key, _, value = line[1:].strip().partition(" ")
        if key == "end":
            break
        fields[key.lower()] = value.strip()
    return Header(_format(fields), fields, size)


def _format(fields: dict[str, str]) -> str:
    """Return the encoding in the fields of a header, such as "EVT3"; "DAT" if they contain no encoding."""
    name = fields.get("format", "").partition(";")[0].upper()
    if name:
        return ENCODINGS.get(name, name)
    return ENCODINGS.get(fields["evt"], f"EVT {fields['evt']}") if "evt" in fields else "DAT"
