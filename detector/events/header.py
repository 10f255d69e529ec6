"""What a recording is, read from its first bytes and never from its name.

DAT and RAW files begin with text lines `% key value`; HDF5 files with a signature. Which fields name the encoding
and the sensor's size changed over the years: `% format EVT3;height=720;width=1280`, `% evt 3.0`,
`% geometry 1280x720`, `% Height 720`, or nothing but the camera's `% system_ID`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Header", "read_header"]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
LONGEST_HEADER = 1 << 16
ENCODINGS = {"2.0": "EVT2", "2.1": "EVT2.1", "3.0": "EVT3", "EVT21": "EVT2.1"}
"""Encodings as `% evt` and `% format` spell them; other spellings are taken as they are."""

# Cameras by system_ID (OpenEB, hal_psee_plugins, device_system_id.h, Apache-2.0), for headers older than the sizes.
VGA_SYSTEMS = {0x15, 0x17, 0x97, 0x19, 0x99, 0x1C, 0x1D, 0x21, 0xA1, 0x22, 0xA2, 0x23, 0x28, 0x29}
HD_SYSTEMS = {0x1A, 0x9A, 0x1E, 0x1F, 0x20, 0x27, 0x2E, 0x30}


@dataclass(frozen=True)
class Header:
    """The beginning of a recording.

    Args:
        format: DAT, EVT2, EVT2.1, EVT3, HDF5, or the encoding as a RAW header names it
        fields: `% key value` lines, keys in lower case
        size: bytes of text before the data
    """

    format: str
    fields: dict[str, str]
    size: int

    def sensor_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, None if the header does not tell them."""
        fields = dict(self.fields)
        for entry in fields.get("format", "").split(";")[1:]:
            key, _, value = entry.partition("=")
            fields.setdefault(key.strip().lower(), value.strip())
        geometry = re.fullmatch(r"(\d+)x(\d+)", fields.get("geometry", ""))
        if geometry:
            return int(geometry[2]), int(geometry[1])
        if fields.get("height", "").isdecimal() and fields.get("width", "").isdecimal():
            return int(fields["height"]), int(fields["width"])
        system = fields.get("system_id", "")
        if system.isdecimal() and int(system) in VGA_SYSTEMS:
            return 480, 640
        if system.isdecimal() and int(system) in HD_SYSTEMS:
            return 720, 1280
        return None


def read_header(path: Path) -> Header:
    """Tell a recording's format from its content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty or begins like no recording.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such recording")
    with path.open("rb") as file:
        head = file.read(LONGEST_HEADER)
    if not head:
        raise ValueError(f"{path}: empty file, not an event recording")
    if head.startswith(HDF5_SIGNATURE):
        return Header("HDF5", {}, 0)
    fields, size = _text_lines(head)
    if size == 0:
        raise ValueError(f"{path}: not an event recording: it begins with {head[:8]!r}, no known header")
    return Header(_format(fields), fields, size)


def _text_lines(head: bytes) -> tuple[dict[str, str], int]:
    """Fields of the leading `% ` lines and their length in bytes.

    Without `% end` the data may begin with the byte of "%": a line is text only if all of it can be printed.
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
    return fields, size


def _format(fields: dict[str, str]) -> str:
    """Encoding that the fields name; only RAW headers name one."""
    name = fields.get("format", "").partition(";")[0].upper()
    if name:
        return ENCODINGS.get(name, name)
    return ENCODINGS.get(fields["evt"], f"EVT {fields['evt']}") if "evt" in fields else "DAT"
