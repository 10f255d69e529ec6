"""Reader of AEDAT4 recordings, which DV writes for DAVIS and DVXplorer cameras.

A file begins with a line of text and a header, a FlatBuffer with the kind of compression, the place of an index, and a
description of the streams in XML. Packets follow: the id of the stream, the number of bytes, a compressed FlatBuffer.
The index at the end contains the number of elements and the first and last time of each packet. It is missing if the
recording was interrupted. Source: iniVation, "AEDAT4 file format", https://docs.inivation.com.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.headers.sensor_size import sensor_size
from detector.events.packets.packet_reader import PacketReader

__all__ = ["Aedat4Reader"]

MAGIC = b"#!AER-DAT4.0\r\n"
EVENT = np.dtype(
    {"names": ("t", "x", "y", "on"), "formats": ("<i8", "<i2", "<i2", "u1"), "offsets": (0, 8, 10, 12), "itemsize": 16}
)
PACKET_HEADER = struct.Struct("<ii")
INSTALL = "pip install flatbuffers lz4 zstandard"
LONGEST = 1 << 30
"""Most bytes of a header, an index or a decompressed packet. Larger ones are damaged."""


class Packet(NamedTuple):
    """A packet of the file.

    Args:
        stream: id of its stream.
        start: position of its compressed bytes in the file.
        size: number of compressed bytes.
    """

    stream: int
    start: int
    size: int


class Aedat4Reader(PacketReader):
    """Reads the events of AEDAT4 recordings.

    Args:
        path: path of the recording.
        height: sensor height in pixels, for files that do not contain it.
        width: sensor width in pixels, for files that do not contain it.

    Raises:
        ValueError: the file is damaged or contains no events, the events of several cameras, or compressed data without
            an installed package for it; or the sensor size is unknown.
    """

    def __init__(self, path: Path, height: int | None = None, width: int | None = None) -> None:
        self._file = path.open("rb", buffering=0)
        try:
            with _readable(path):
                compression, place, description, begin = self._read_header()
                streams = _streams(description)
            self._decompress = _decompressor(path, compression)
            events = [key for key, (kind, _) in streams.items() if kind == "EVTS"]
            if len(events) != 1:
                found = ", ".join(f"{key} {kind}" for key, (kind, _) in streams.items()) or "none"
                raise ValueError(f"{path}: got streams {found}, allowed: one stream of events (EVTS)")
            packets, self._truncated = self._find_packets(begin, place)
            self._index = self._read_index(place) if place > 0 else {}
            size = sensor_size(path, streams[events[0]][1], height, width)
        except ImportError as error:
            self._file.close()
            raise ValueError(f"{path}: AEDAT4 needs the package {error.name}: {INSTALL}") from None
        except BaseException:
            self._file.close()
            raise
        self._frames = [one for one in packets if streams.get(one.stream, ("", None))[0] == "FRME"]
        self._packets = [one for one in packets if one.stream == events[0] and self._index.get(one.start, (1, 0))[0]]
        super().__init__(path, *size, len(self._packets))

    def _read_header(self) -> tuple[int, int, str, int]:
        """Return the kind of compression, the place of the index (-1 without one), the XML, and the first packet."""
        head = os.pread(self._file.fileno(), len(MAGIC) + 4, 0)
        if not head.startswith(MAGIC):
            raise ValueError("no AEDAT4 header")
        (size,) = struct.unpack_from("<I", head, len(MAGIC))
        buffer = self._read(len(head), size)
        table = _root(buffer, 0)
        compression, place = _number(table, 0, "<i", 0), _number(table, 1, "<q", -1)
        offset = table.Offset(8)
        text = table.String(table.Pos + offset).decode() if offset else ""
        return compression, place, text, len(head) + size

    def _read(self, start: int, size: int) -> bytes:
        if not 0 <= size <= LONGEST:
            raise ValueError(f"{size} bytes at byte {start}")
        data = os.pread(self._file.fileno(), size, start)
        if len(data) < size:
            raise ValueError(f"the file ends at byte {start + len(data)}")
        return data

    def _find_packets(self, begin: int, place: int) -> tuple[list[Packet], int]:
        """Return all packets, and 1 if the file ends in the middle of the last one, otherwise 0."""
        end = os.fstat(self._file.fileno()).st_size
        stop = min(place, end) if place > 0 else end
        packets: list[Packet] = []
        while begin < stop:
            header = os.pread(self._file.fileno(), PACKET_HEADER.size, begin)
            if len(header) < PACKET_HEADER.size:
                return packets, 1
            stream, size = PACKET_HEADER.unpack(header)
            begin += PACKET_HEADER.size
            if size < 0 or begin + size > stop:
                return packets, 1
            packets.append(Packet(stream, begin, size))
            begin += size
        return packets, 0

    def _read_index(self, place: int) -> dict[int, tuple[int, int]]:
        """Return the number of elements and the first time of each packet by its start. Empty if it is damaged."""
        try:
            size = os.fstat(self._file.fileno()).st_size - place
            buffer = self._decompress(self._read(place, size))
            table = _root(buffer, 4)
            found = {}
            for row in _rows(table, 0):
                start = _number(row, 0, "<q", -1)
                found[start] = _number(row, 2, "<q", 0), _number(row, 3, "<q", 0)
        except Exception:  # the packages raise many kinds of errors; all packets are found without the index
            return {}
        return found

    def _indexed_time(self, number: int) -> int | None:
        found = self._index.get(self._packets[number].start)
        return None if found is None else found[1]

    def _load_block(self, number: int, buffer: ColumnBuffer) -> Columns:
        packet = self._packets[number]
        with _readable(self.path, f"packet at byte {packet.start}"):
            table = self._table(packet)
            offset = table.Offset(4)
            begin, count = (table.Vector(offset), table.VectorLen(offset)) if offset else (0, 0)
            events = np.frombuffer(table.Bytes, EVENT, count, begin)
        x, y = events["x"], events["y"]
        p = (events["on"] != 0).astype(np.int8)
        p[(x < 0) | (y < 0)] = -1
        return x.astype(np.uint16), y.astype(np.uint16), p, events["t"].astype(np.int64)

    def _table(self, packet: Packet) -> Any:
        """Return the root table of the FlatBuffer of a packet, whose size is in the first four bytes."""
        return _root(self._decompress(self._read(packet.start, packet.size)), 4)

    def frame_times(self) -> np.ndarray:
        """Return the times of the camera images (APS frames), as an (N,) int64 array in microseconds."""
        self._check_open()
        times = []
        for packet in self._frames:
            with _readable(self.path, f"packet at byte {packet.start}"):
                times.append(_number(self._table(packet), 0, "<q", 0))
        return np.array(times, np.int64)

    def close(self) -> None:
        """Close the file. Arrays that were read remain valid."""
        super().close()
        self._file.close()


def _root(buffer: bytes, start: int) -> Any:
    """Return the root table of a FlatBuffer that begins at byte `start`."""
    from flatbuffers.table import Table

    (offset,) = struct.unpack_from("<I", buffer, start)
    return Table(buffer, start + offset)


def _number(table: Any, field: int, kind: str, default: int) -> int:
    offset = table.Offset(4 + 2 * field)
    return struct.unpack_from(kind, table.Bytes, table.Pos + offset)[0] if offset else default


def _rows(table: Any, field: int) -> Iterator[Any]:
    """Iterate over the tables of a vector of tables."""
    from flatbuffers.table import Table

    offset = table.Offset(4 + 2 * field)
    if offset:
        begin = table.Vector(offset)
        for row in range(table.VectorLen(offset)):
            yield Table(table.Bytes, table.Indirect(begin + 4 * row))


def _streams(description: str) -> dict[int, tuple[str, tuple[int, int] | None]]:
    """Return a dict from the id of each stream to its type, such as EVTS, and (height, width) or None."""
    streams = {}
    for node in ElementTree.fromstring(description).findall("./node[@name='outInfo']/node"):
        values = {one.get("key"): one.text for one in node.findall("attr")}
        sides = {one.get("key"): one.text for one in node.findall("./node[@name='info']/attr")}
        size = (int(sides["sizeY"] or 0), int(sides["sizeX"] or 0)) if {"sizeX", "sizeY"} <= sides.keys() else None
        streams[int(node.get("name", ""))] = values.get("typeIdentifier") or "", size
    return streams


def _decompressor(path: Path, compression: int) -> Callable[[bytes], bytes]:
    """Return the function that decompresses packets.

    Raises:
        ValueError: the kind of compression is unknown.
        ImportError: its package is not installed.
    """
    if compression in (1, 2):
        from lz4.frame import decompress

        return decompress
    if compression in (3, 4):
        from zstandard import ZstdDecompressor

        return lambda data: ZstdDecompressor().decompress(data, max_output_size=LONGEST)
    if compression:
        raise ValueError(f"{path}: got compression {compression}, allowed: 0 (none), 1, 2 (LZ4), 3, 4 (Zstandard)")
    return bytes


@contextmanager
def _readable(path: Path, what: str = "header") -> Iterator[None]:
    """Context manager in which errors about damaged data become a ValueError that names the file and the part."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # the packages raise many kinds of errors for damaged data
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: the {what} is damaged: {reason}") from None
