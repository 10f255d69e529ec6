import struct

import numpy as np
import pytest
from ecf_encoder import encode

from detector.events.arrays import ColumnBuffer
from detector.events.prophesee import ecf
from detector.events.prophesee.ecf import count_events, decode, first_time
from detector.events.types import EventCD

HEADER = struct.Struct("<IQ")


def decoded(chunk):
    columns = ColumnBuffer().take(count_events(chunk, "a"))
    for column in columns:
        column[:] = 77
    decode(chunk, columns, "a")
    return list(zip(*(column.tolist() for column in columns), strict=True))


def tuples(events):
    return [tuple(event) for event in events.tolist()]


def make_events(count, seed=0, steps=(0, 1), columns=2048):
    """Events whose times, rows, columns and polarities come in runs of all lengths."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EventCD)
    events["t"] = 1000 + np.cumsum(rng.choice(steps, count))
    events["y"] = np.repeat(rng.integers(0, 2048, count), rng.integers(1, 60, count))[:count]
    events["x"] = np.cumsum(rng.choice([1, 2, 3, 5, 6, -40], count)) % columns
    events["p"] = np.repeat(rng.integers(0, 2, count), rng.integers(1, 300, count))[:count]
    return events


@pytest.mark.parametrize(
    ("body", "layout", "expected"),
    [
        # step 2, one event; step 0, one event | row 3 twice | column 7 and 7 + 2 (bit 3) | ON twice
        (b"\x21\x01" + struct.pack("<HH", 3 << 5 | 2, 7 << 5 | 8) + b"\x82", 0, [(7, 3, 1, 7), (9, 3, 1, 7)]),
        # step 0x12 + 1 = 19 from two halves and a step | rows 2047, 0 | 12 bits: 7 ON, 8 OFF
        (b"\xf2\xf1\x12" + struct.pack("<HH", 2047 << 5 | 1, 1) + b"\xf0\x00\x00\x01\x00\x00", 1,
         [(7, 2047, 1, 24), (8, 0, 0, 24)]),
        # 24 bits: y 1, x 2, ON; y 3, x 4, OFF
        (b"\x02" + struct.pack("<III", 0x1005 << 8 | 0x08, 0x30 << 16, 0), 2, [(2, 1, 1, 5), (4, 3, 0, 5)]),
    ],
)  # fmt: skip
def test_bytes_by_hand(body, layout, expected):
    chunk = HEADER.pack(2 << 2 | layout, 5) + body
    assert first_time(chunk, "a") == 5
    assert decoded(chunk) == expected


def test_an_event_at_the_last_time():
    last = (1 << 62) - 1
    body = b"\x01" + struct.pack("<HH", 3 << 5 | 1, 7 << 5) + b"\x81"
    assert decoded(HEADER.pack(1 << 2, last) + body) == [(7, 3, 1, last)]
    with pytest.raises(ValueError, match="times"):
        decoded(HEADER.pack(1 << 2, last + 1) + body)


def test_long_runs_follow_as_two_bytes():
    body = b"\x0f\x2c\x01" + struct.pack("<HH", 9 << 5 | 31, 300) + struct.pack("<H", 4 << 5) * 300 + b"\xff\x2c\x01"
    assert decoded(HEADER.pack(300 << 2, 5) + body) == [(4, 9, 1, 5)] * 300


@pytest.mark.parametrize("layout", [0, 1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 131, 5000])
def test_every_layout_against_the_encoder(layout, count):
    events = make_events(count, seed=count, steps=(0, 0, 0, 1, 14, 15, 16, 300, 70_000))
    assert decoded(encode(events, layout)) == tuples(events)


def test_layout_three_is_packed_like_two():
    events = make_events(6)
    chunk = encode(events, 2)
    assert decoded(bytes([chunk[0] | 1]) + chunk[1:]) == tuples(events)


@pytest.mark.parametrize("name", ["_times", "_rows", "_columns", "_polarities", "_packed_columns", "_packed_pixels"])
def test_loops_as_plain_python(monkeypatch, name):
    loop = getattr(ecf, name)
    monkeypatch.setattr(ecf, name, getattr(loop, "py_func", loop))
    events = make_events(140, steps=(0, 0, 20))
    for layout in range(3):
        assert decoded(encode(events, layout)) == tuples(events)


def test_neighbours_beyond_the_last_event_mean_nothing():
    chunk = HEADER.pack(2 << 2, 5) + b"\x02" + struct.pack("<HH", 3 << 5 | 2, 7 << 5 | 0b11111) + b"\x82"
    assert decoded(chunk) == [(7, 3, 1, 5), (8, 3, 1, 5)]


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (b"\x04" * 11, "11 bytes, allowed: at least 12"),
        (HEADER.pack(2 << 2, 5) + b"\x01", "times"),
        (HEADER.pack(2 << 2, 5) + b"\x03", "times"),
        (HEADER.pack(2 << 2, 5) + b"\x0f\x02", "times"),
        (HEADER.pack(2 << 2, 5) + b"\xff" * 16, "times"),
        (HEADER.pack(1 << 2, 1 << 63) + b"\x01" + bytes(9), "times"),
        (HEADER.pack(2 << 2, 5) + b"\x02\x03", "rows"),
        (HEADER.pack(2 << 2, 5) + b"\x02\x03\x00", "rows"),
        (HEADER.pack(2 << 2, 5) + b"\x02\x1f\x00\x02", "rows"),
        (HEADER.pack(2 << 2, 5) + b"\x02\x02\x00\x10", "columns"),
        (HEADER.pack(2 << 2, 5) + b"\x02\x02\x00\x10\x00\x00\x00", "polarities"),
        (HEADER.pack(2 << 2, 5) + b"\x02\x02\x00\x10\x00\x00\x00\x7f\x02", "polarities"),
        (HEADER.pack(2 << 2, 5) + b"\x02\x02\x00\x10\x00\x00\x00\x83", "polarities"),
        (HEADER.pack(2 << 2 | 1, 5) + b"\x02\x02\x00" + bytes(5), "columns"),
        (HEADER.pack(2 << 2 | 2, 5) + b"\x02" + bytes(11), "pixels"),
    ],
)
def test_chunks_that_end_early_or_hold_too_much(chunk, message):
    with pytest.raises(ValueError, match=f"a: corrupt ECF chunk: .*{message}"):
        decoded(chunk)


def test_columns_of_another_length():
    with pytest.raises(ValueError, match="a: corrupt ECF chunk: it holds 3 events, allowed: 4"):
        decode(encode(make_events(3), 0), ColumnBuffer().take(4), "a")


@pytest.mark.parametrize("layout", [0, 1, 2])
def test_mutated_chunks_write_nothing_beyond_their_columns(layout):
    rng = np.random.default_rng(layout)
    chunk = encode(make_events(150, steps=(0, 0, 1, 40)), layout)
    refused = 0
    for _ in range(400):
        mutated = bytearray(chunk)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(4, len(mutated))] = rng.integers(0, 256)
        mutated = bytes(mutated[: rng.choice([len(mutated), rng.integers(12, len(mutated))], p=[0.8, 0.2])])
        guarded = ColumnBuffer().take(150 + 200)
        for column in guarded:
            column[:] = 99
        try:
            decode(mutated, tuple(column[100:250] for column in guarded), "a")
            assert (np.diff(guarded[3][100:250]) >= 0).all() and guarded[3][100] >= 0
        except ValueError:
            refused += 1
        assert all((column[:100] == 99).all() and (column[250:] == 99).all() for column in guarded)
    assert 50 < refused < 400
