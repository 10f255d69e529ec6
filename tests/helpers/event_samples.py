"""Events and words for the files in tests of readers."""

import numpy as np

from detector.events import EventCD

EVT2_HEADER = b"% evt 2.0\n% format EVT2;height=480;width=640\n% geometry 640x480\n% end\n"
EVT3_HEADER = b"% evt 3.0\n% format EVT3;height=480;width=640\n% end\n"


def events_at(times, seed=0, height=480, width=640):
    """Events at random pixels of a sensor."""
    rng = np.random.default_rng(seed)
    events = np.zeros(len(times), EventCD)
    events["t"] = times
    events["x"] = rng.integers(0, width, len(times))
    events["y"] = rng.integers(0, height, len(times))
    events["p"] = rng.integers(0, 2, len(times))
    return events


def between(events, t0, t1):
    return events[(events["t"] >= t0) & (events["t"] < t1)]


def evt21_header(endianness):
    order = f"% endianness {endianness}\n" if endianness else ""
    return f"{order}% evt 2.1\n% format EVT21;height=480;width=640\n% end\n".encode()


def evt21_bytes(events, endianness):
    """Words of EVT2.1, one per event, with a TIME_HIGH at each change of the upper time bits."""
    words, high = [], -1
    for x, y, p, t in events.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append((0x8 << 28 | high, 0))
        words.append((p << 28 | (t & 63) << 22 | x // 32 * 32 << 11 | y, 1 << x % 32))
    halves = np.array(words, "<u4").reshape(-1, 2)
    return (halves if endianness == "legacy" else halves[:, ::-1]).tobytes()
