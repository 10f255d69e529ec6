"""Small AEDAT4 files, written with the FlatBuffers library."""

import struct

import flatbuffers
import numpy as np
from lz4.frame import compress
from zstandard import ZstdCompressor

COMPRESS = {0: bytes, 1: compress, 2: compress, 3: ZstdCompressor().compress, 4: ZstdCompressor().compress}
EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("pad", "V3")])
STREAM = """<node name="{key}"><attr key="typeIdentifier" type="string">{kind}</attr><node name="info">
<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr></node></node>"""


def description(*streams):
    """XML of streams (kind, width, height), numbered from 0."""
    nodes = [STREAM.format(key=key, kind=kind, width=w, height=h) for key, (kind, w, h) in enumerate(streams)]
    return f'<dv version="2.0"><node name="outInfo">{"".join(nodes)}</node></dv>'


def event_packet(events):
    """The FlatBuffer of a packet of events, with its size before it."""
    rows = np.zeros(len(events), EVENT)
    for name, field in (("t", "t"), ("x", "x"), ("y", "y"), ("on", "p")):
        rows[name] = events[field]
    builder = flatbuffers.Builder(0)
    builder.StartVector(16, len(rows), 8)
    builder.head -= rows.nbytes
    builder.Bytes[builder.head : builder.head + rows.nbytes] = rows.tobytes()
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    return _finished(builder, b"EVTS")


def frame_packet(time):
    """The FlatBuffer of an image without pixels, with its size before it."""
    builder = flatbuffers.Builder(0)
    builder.StartObject(1)
    builder.PrependInt64Slot(0, time, 0)
    return _finished(builder, b"FRME")


def _finished(builder, kind):
    builder.FinishSizePrefixed(builder.EndObject(), kind)
    return bytes(builder.Output())


def aedat4(packets, *streams, compression=0, indexed=True):
    """Bytes of a file.

    Args:
        packets: (stream, FlatBuffer, number of elements, first time) of each packet.
        streams: (kind, width, height) of each stream.
        compression: number of the kind of compression.
        indexed: whether the file ends with an index.
    """
    xml, stored = description(*streams), [COMPRESS[compression](packet) for _, packet, _, _ in packets]
    begin = len(_header(xml, compression, 1))
    body, rows = b"", []
    for (stream, _, count, time), data in zip(packets, stored, strict=True):
        rows.append((begin + len(body) + 8, stream, len(data), count, time))
        body += struct.pack("<ii", stream, len(data)) + data
    index = COMPRESS[compression](_index(rows)) if indexed else b""
    return _header(xml, compression, begin + len(body) if indexed else -1) + body + index


def _header(xml, compression, place):
    builder = flatbuffers.Builder(0)
    text = builder.CreateString(xml)
    builder.StartObject(3)
    builder.PrependInt64Slot(1, place, 0)
    builder.PrependInt32Slot(0, compression, -1)
    builder.PrependUOffsetTRelativeSlot(2, text, 0)
    return b"#!AER-DAT4.0\r\n" + _finished(builder, b"IOHE")


def _index(rows):
    builder, tables = flatbuffers.Builder(0), []
    for start, stream, size, count, time in rows:
        builder.StartObject(5)
        builder.PrependInt64Slot(0, start, 0)
        builder.Prep(4, 8)
        builder.PrependInt32(size)
        builder.PrependInt32(stream)
        builder.PrependStructSlot(1, builder.Offset(), 0)
        for slot, value in ((2, count), (3, time), (4, time)):
            builder.PrependInt64Slot(slot, value, 0)
        tables.append(builder.EndObject())
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    return _finished(builder, b"FTAB")


def event_file(parts, width=640, height=480, **options):
    """Bytes of a file with one packet per array of events."""
    packets = [(0, event_packet(part), len(part), int(part["t"][0]) if len(part) else 0) for part in parts]
    return aedat4(packets, ("EVTS", width, height), **options)
