"""Writers of recordings with faulty events, and a simple reference of the rules that repair them."""

import h5py
import numpy as np
from ecf_encoder import encode, write_chunks
from event_samples import EVT2_HEADER, EVT3_HEADER, evt21_bytes, evt21_header

from detector.events import EventCD, Faults

HEIGHT, WIDTH = 480, 640
LATEST_US = 100_000


def plain_mend(events, height=HEIGHT, width=WIDTH):
    """Apply the rules of CONTRACTS, "Faulty events", to one event after the other; returns kept events and counts."""
    kept, counts = [], dict.fromkeys(("outside", "late", "dropped", "ahead", "raised"), 0)
    inside = [event for event in events.tolist() if 0 <= event[0] < width and 0 <= event[1] < height]
    counts["outside"] = len(events) - len(inside)
    for index, (x, y, p, t) in enumerate(inside):
        now = kept[-1][3] if kept else 0
        after = inside[index + 1][3] if index + 1 < len(inside) else None
        if t >= now:
            kept.append((x, y, p, t))
        elif after is None or after >= now:
            counts["late" if now - t <= LATEST_US else "dropped"] += 1
            kept += [(x, y, p, now)] * (now - t <= LATEST_US)
        elif kept and (kept[-2][3] if len(kept) > 1 else 0) <= t:
            counts["ahead"] += 1
            kept[-1] = (x, y, p, t)
        elif now - t <= LATEST_US:
            counts["raised"] += 1
            kept.append((x, y, p, now))
        else:
            raise ValueError(f"time falls from {now} to {t}")
    return np.array(kept, EventCD), Faults(**counts)


def dat(path, events):
    words = np.zeros((len(events), 2), "<u4")
    words[:, 0] = events["t"] % 2**32
    words[:, 1] = events["x"] | events["y"].astype(np.uint32) << 14 | events["p"].astype(np.uint32) << 28
    path.write_bytes(b"% Version 2\n% Height 480\n% Width 640\n\x0c\x08" + words.tobytes())


def evt2(path, events):
    words, high = [], None
    for x, y, p, t in events.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high % 2**28)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    path.write_bytes(EVT2_HEADER + np.array(words, "<u4").tobytes())


def evt21(path, events):
    path.write_bytes(evt21_header("little") + evt21_bytes(events, "little"))


def evt3(path, events):
    words, high = [], None
    for x, y, p, t in events.tolist():
        if t >> 12 != high:
            high = t >> 12
            words.append(0x8000 | high % 4096)
        words += [0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x]
    path.write_bytes(EVT3_HEADER + np.array(words, "<u2").tobytes())


def ecf(path, events):
    """Write chunks of 16 events, as times cannot fall within a chunk."""
    parts = [events[start : start + 16] for start in range(0, len(events), 16)]
    chunks = [(0, encode(part, index % 3)) for index, part in enumerate(parts)]
    write_chunks(path, chunks, len(events), 16, f"{WIDTH}x{HEIGHT}")


def hdf5(path, events):
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = f"{WIDTH}x{HEIGHT}"
        file.create_dataset("CD/events", data=events, chunks=(16,), maxshape=(None,), compression="gzip")


def columns(path, events):
    with h5py.File(path, "w") as file:
        file["events/height"], file["events/width"] = HEIGHT, WIDTH
        for name in "xypt":
            file[f"events/{name}"] = events[name]


def npy(path, events):
    with path.open("wb") as file:
        np.save(file, events)


def csv(path, events):
    path.write_text("x,y,p,t\n" + "".join(f"{x},{y},{p},{t}\n" for x, y, p, t in events.tolist()))


WRITERS = {
    "DAT": dat,
    "EVT2": evt2,
    "EVT2.1": evt21,
    "EVT3": evt3,
    "ECF": ecf,
    "HDF5": hdf5,
    "columns": columns,
    "NPY": npy,
    "CSV": csv,
}

REACH = {"DAT": 2**31 - 10**7, "EVT2": 2**33 - 10**7, "EVT2.1": 2**33 - 10**7, "EVT3": 2**22}
"""Largest error of a time in microseconds that the clock of the format cannot confuse with a period."""
