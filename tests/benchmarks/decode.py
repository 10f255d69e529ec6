"""Decoding recordings to columns, one thread: million events per second against other readers and against memory.

`python tests/benchmarks/decode.py [--events N] [--rounds N] [--small]`. All forms take turns in one process and their
medians are compared: absolute figures depend on the machine, ratios carry over. Files are in the page cache. The limit
is reading the same bytes, a chunk at a time, and writing columns of the same size. A window's bounds are looked for
`SEARCHES` times in a row. Peers that are not installed are named. expelliarmus reads DAT only: its EVT3 times are
wrong.
"""

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rounds import Row, arguments, medians, parse, print_rows

from detector.events import EventCD, open_events, write_dat, write_evt2, write_evt3
from detector.events.arrays import ColumnBuffer
from detector.events.prophesee.fixed_size import CHUNK_BYTES

HEIGHT, WIDTH, RATE, CLUSTERS, WINDOW, SEARCHES = 720, 1280, 10, 24, 50_000, 20
PEERS = {"faery": "pip install faery", "evt3": "pip install evt3", "expelliarmus": "pip install expelliarmus"}
WRITERS = {"DAT": write_dat, "EVT2": write_evt2, "EVT3": write_evt3}


def _events(count: int) -> np.ndarray:
    """Events in clusters, `RATE` a microsecond, in the order in which a camera reads rows out."""
    rng = np.random.default_rng(0)
    events = np.empty(count, EventCD)
    cluster = rng.integers(0, CLUSTERS, count)
    for name, side in (("x", WIDTH), ("y", HEIGHT)):
        centre = rng.uniform(0, side, CLUSTERS)[cluster]
        events[name] = np.clip(rng.normal(centre, side / 20), 0, side - 1)
    events["p"] = rng.integers(0, 2, count)
    events["t"] = np.arange(count) // RATE
    for start in range(0, count, 1 << 20):
        part = events[start : start + (1 << 20)]
        part[:] = part[np.lexsort((part["x"], part["y"], part["t"]))]
    return events


def _peer(name: str, path: Path) -> Callable[[], object] | None:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    if name == "faery":
        return lambda: module.events_stream_from_file(path, dimensions_fallback=(WIDTH, HEIGHT)).to_array()
    if name == "evt3":
        return lambda: module.decode_file(str(path))
    wizard = module.Wizard(encoding="dat")
    return lambda: wizard.read(path)


def _ours(path: Path, reuse: bool) -> Callable[[], object]:
    reader, buffer = open_events(path), ColumnBuffer()
    return lambda: reader.read_columns(out=buffer if reuse else None)


def _limit(path: Path, count: int) -> Callable[[], object]:
    memory = bytearray(CHUNK_BYTES)
    columns = [np.zeros(count, dtype) for dtype in ("u2", "u2", "i1", "i8")]

    def run() -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(memory):
                pass
        for column in columns:
            column.fill(1)

    return run


def _find_window(path: Path, last: int) -> dict[str, Callable[[], object]]:
    reader, rng = open_events(path), np.random.default_rng(1)
    record = np.dtype([("t", "<u4"), ("packed", "<u4")])
    count = reader.read_columns()[0].size
    mapped = np.memmap(path, record, "r", path.stat().st_size - 8 * count, count)

    starts = rng.integers(0, max(1, last - WINDOW), SEARCHES).tolist()
    return {
        "window: np.searchsorted": lambda: [np.searchsorted(mapped["t"], [t0, t0 + WINDOW]) for t0 in starts],
        "window: EvForge": lambda: [reader._bounds(t0, t0 + WINDOW) for t0 in starts],
    }


def _forms(folder: Path, count: int) -> tuple[dict[str, Callable[[], object]], list[str]]:
    events = _events(count)
    forms: dict[str, Callable[[], object]] = {}
    missing = []
    for name, write in WRITERS.items():
        path = folder / f"events.{'dat' if name == 'DAT' else 'raw'}"
        path = path.with_stem(name.lower())
        write(path, events, HEIGHT, WIDTH)
        forms |= {f"{name}: limit": _limit(path, count)}
        forms |= {f"{name}: EvForge, reused": _ours(path, True), f"{name}: EvForge, fresh": _ours(path, False)}
        peers = {"DAT": ["expelliarmus", "faery"], "EVT2": ["faery"], "EVT3": ["faery", "evt3"]}[name]
        for peer in peers:
            form = _peer(peer, path)
            if form is None:
                missing.append(f"{name}: {peer:<28} not installed: {PEERS[peer]}")
            else:
                forms[f"{name}: {peer}"] = form
        if name == "DAT":
            forms |= _find_window(path, int(events["t"][-1]))
    return forms, missing


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="events of each file (10 million)")
    args = parse(parser)
    events = 20_000 if args.small else args.events
    with tempfile.TemporaryDirectory() as folder:
        forms, missing = _forms(Path(folder), events)
        found = medians(forms, args.rounds)
    found = {name: s / (SEARCHES if name.startswith("window") else 1) for name, s in found.items()}
    rows = []
    for name, seconds in found.items():
        group, _, peer = name.partition(": ")
        ours = f"{group}: EvForge" if group == "window" else f"{group}: EvForge, reused"
        if name not in (ours, f"{group}: limit"):
            limit = found.get(f"{group}: limit", 0.0) / found[ours] or None
            figures = [_figure(group, found[form], events) for form in (ours, name)]
            path = "bounds of a 50 ms window in DAT" if group == "window" else f"reading {group} to columns"
            rows.append(Row(path, peer, *figures, seconds / found[ours], None, limit))
    print("\n".join(missing))
    print_rows("decode", rows, events=events)


def _figure(group: str, seconds: float, events: int) -> str:
    return f"{1e3 * seconds:.3f} ms" if group == "window" else f"{events / seconds / 1e6:.0f} Mev/s"


if __name__ == "__main__":
    main()
