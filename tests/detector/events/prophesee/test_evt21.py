import numpy as np
import pytest
from event_samples import between, events_at, evt21_bytes, evt21_header

from detector.events import open_events

ORDERS = ["legacy", "little"]


def high(value):
    return 0x8 << 28 | value, 0


def cd(low, x, y, p, mask):
    return p << 28 | low << 22 | x << 11 | y, mask


def write(tmp_path, halves, endianness, header=None):
    words = np.array(halves, "<u4").reshape(-1, 2)
    path = tmp_path / "a.raw"
    data = (words if endianness == "legacy" else words[:, ::-1]).tobytes()
    path.write_bytes((evt21_header(endianness) if header is None else header) + data)
    return path


@pytest.mark.parametrize("order", ORDERS)
def test_words_by_hand(tmp_path, order):
    halves = [
        cd(1, 32, 5, 1, 1),  # before any TIME_HIGH
        high(2),
        cd(0, 608, 479, 1, 1 << 31 | 1 << 5 | 1),
        (0xE << 28, 0xFFFFFFFF),
        cd(63, 0, 0, 0, 0),
        high(3),
        cd(4, 7, 8, 0, 0b110),
    ]
    with open_events(write(tmp_path, halves, order)) as reader:
        assert (reader.height, reader.width) == (480, 640)
        assert reader.read().tolist() == [
            (608, 479, 1, 128),
            (613, 479, 1, 128),
            (639, 479, 1, 128),
            (8, 8, 0, 196),
            (9, 8, 0, 196),
        ]
        assert (reader.first_t, reader.last_t) == (128, 196)
        assert reader.read(129, 197)["x"].tolist() == [8, 9]


@pytest.mark.parametrize("order", ORDERS)
def test_triggers(tmp_path, order):
    halves = [high(1), (0xA << 28 | 3 << 22 | 6 << 8 | 1, 0), cd(5, 0, 1, 0, 1), high(2), (0xA << 28 | 31 << 8, 0)]
    with open_events(write(tmp_path, halves, order)) as reader:
        edges = reader.triggers()
        assert [(edge["t"], edge["p"], edge["id"]) for edge in edges] == [(67, 1, 6), (128, 0, 31)]
        assert reader.read()["t"].tolist() == [69]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("told", [True, False])
def test_windows_and_batches_in_both_orders(tmp_path, order, told):
    events = events_at(np.sort(np.random.default_rng(2).integers(10**6, 10**6 + 30_000, 3000)))
    path = tmp_path / "a.raw"
    path.write_bytes(evt21_header(order if told else None) + evt21_bytes(events, order))
    with open_events(path) as reader:
        assert np.array_equal(reader.read(), events)
        for t0, t1 in [(0, 10**6), (10**6, 10**6 + 64), (1_010_001, 1_012_345), (1_029_000, 10**9)]:
            assert np.array_equal(reader.read(t0, t1), between(events, t0, t1))
        assert np.array_equal(np.concatenate(list(reader.batches(700))), events)


def test_the_order_may_stand_in_the_format(tmp_path):
    header = b"% format EVT21;height=480;width=640;endianness=little\n% end\n"
    path = write(tmp_path, [high(1), cd(0, 0, 0, 1, 1)], "little", header)
    assert open_events(path).read().tolist() == [(0, 0, 1, 64)]
    header = header.replace(b"little", b"big")
    with pytest.raises(ValueError, match="a.raw: endianness is big, allowed: legacy, little"):
        open_events(write(tmp_path, [], "little", header))


def test_zero_events(tmp_path):
    for halves in ([], [high(3)], [high(3), cd(0, 0, 0, 1, 0)]):
        with open_events(write(tmp_path, halves, "legacy")) as reader:
            assert (reader.first_t, reader.last_t, reader.read().size) == (None, None, 0)
