"""HDF5 events to columns: Mev/s of ECF chunks decoded here, of gzip, of plain HDF5 and of evlib's ECF, on one thread.

`python tests/benchmarks/ecf.py [recording.hdf5] [--events N] [--rounds N] [--small]`. Whole ECF chunks of the
recording, or of made-up events in all layouts, are repeated with growing times until there are N events. The rounds of
all forms are interleaved in one process and their medians compared: absolute figures depend on the machine, ratios
carry over. All decode whole files that are in the page cache; evlib, which also turns polarities to -1 and 1, is not
asked to sort.
"""

import os
import struct
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from itertools import count
from pathlib import Path

os.environ.update({"POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})  # before evlib

import h5py
import numpy as np
from rounds import Row, arguments, medians, parse, print_rows

sys.path.append(str(Path(__file__).parents[1]))
from ecf_encoder import encode, write_chunks

from detector.events import EventCD, open_events, write_hdf5
from detector.events.arrays import ColumnBuffer
from detector.events.prophesee.ecf import count_events, first_time

try:
    import evlib
except ImportError:
    evlib = None

SIZE = 1 << 14


def _made_up_chunks() -> list[bytes]:
    """Events that come in rows, as a moving edge gives them, a few to the microsecond; each layout in turn."""
    rng = np.random.default_rng(0)
    events = np.zeros(12 * SIZE, EventCD)
    events["t"] = 1_000_000 + np.cumsum(rng.random(events.size) < 0.3)  # evlib misreads files that start at 0
    events["y"] = np.repeat(rng.integers(0, 480, events.size), rng.integers(1, 6, events.size))[: events.size]
    events["x"] = np.cumsum(rng.choice([1, 1, 2, 3, 90], events.size)) % 640
    events["p"] = rng.random(events.size) < 0.4
    return [encode(events[index * SIZE : (index + 1) * SIZE], index % 3) for index in range(12)]


def _whole_chunks(path: Path) -> list[bytes]:
    with h5py.File(path) as file:
        events = file["CD/events"]
        if events.chunks != (SIZE,):
            raise SystemExit(f"{path}: chunks of {events.chunks} events, allowed: {SIZE} as OpenEB writes them")
        return [events.id.read_direct_chunk((start,))[1] for start in range(0, len(events) - SIZE + 1, SIZE)]


def _repeated(chunks: list[bytes], events: int) -> list[tuple[int, bytes]]:
    """As many chunks as hold so many events, each a little later than the one before."""
    first, last = first_time(chunks[0], "chunk"), first_time(chunks[-1], "chunk")
    shifted = []
    for turn in count():
        for chunk in chunks:
            if len(shifted) * SIZE >= events:
                return shifted
            assert count_events(chunk, "chunk") == SIZE
            later = first_time(chunk, "chunk") + turn * (last - first + 10_000_000)
            shifted.append((0, chunk[:4] + struct.pack("<Q", later) + chunk[12:]))
    raise AssertionError


def _read(path: Path, buffer: ColumnBuffer) -> int:
    with open_events(path) as reader:
        return reader.read_columns(out=buffer)[0].size


def _read_plain(path: Path) -> int:
    with h5py.File(path) as file:
        return file["CD/events"][:].size


def _forms(folder: Path, ecf: Path) -> dict[str, Callable[[], int]]:
    with open_events(ecf) as reader:
        events, height, width = reader.read(), reader.height, reader.width
    write_hdf5(folder / "gzip.hdf5", events, height, width)
    with h5py.File(folder / "plain.hdf5", "w") as file:
        file["CD/events"] = events
    buffer, source, target = ColumnBuffer(), ColumnBuffer(), ColumnBuffer()
    for column in source.take(events.size):
        column[:] = 1  # memory that was never written to costs nothing to read
    forms = {
        "ECF": lambda: _read(ecf, buffer),
        "gzip": lambda: _read(folder / "gzip.hdf5", buffer),
        "h5py, contiguous records": lambda: _read_plain(folder / "plain.hdf5"),
        "limit: copy of the columns": lambda: _copy(source, target, events.size),
    }
    if evlib is None:
        print("evlib is not installed: pip install evlib==0.13.2 (the wheel of 0.13.0 has no HDF5)")
        return forms
    loaded = evlib.load_events(str(ecf), sort=False).collect()
    on = int((loaded["polarity"].to_numpy() > 0).sum())
    assert (len(loaded), on) == (events.size, int(events["p"].sum())), "evlib finds other events"
    return {**forms, f"evlib {version('evlib')}": lambda: len(evlib.load_events(str(ecf), sort=False).collect())}


def _copy(source: ColumnBuffer, target: ColumnBuffer, size: int) -> int:
    for column, other in zip(source.take(size), target.take(size), strict=True):
        other[:] = column
    return size


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("recording", type=Path, nargs="?", help="HDF5 recording whose events are ECF")
    parser.add_argument("--events", type=int, default=4_000_000, help="events to decode (4 million)")
    args = parse(parser)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chunks = _whole_chunks(args.recording) if args.recording else _made_up_chunks()
        chunks = _repeated(chunks, SIZE if args.small else args.events)
        size = len(chunks) * SIZE
        ecf = write_chunks(folder / "ecf.hdf5", chunks, size, SIZE, "640x480" if not args.recording else "2048x2048")
        forms = _forms(folder, ecf)
        assert all(form() == size for form in forms.values())
        found = medians(forms, args.rounds)
    rates = {form: f"{size / seconds / 1e6:.0f} Mev/s" for form, seconds in found.items()}
    limit = next(form for form in forms if form.startswith("limit"))
    rows = [
        Row(
            "ECF to columns",
            form,
            rates["ECF"],
            rates[form],
            found[form] / found["ECF"],
            None,
            found[limit] / found["ECF"],
        )
        for form in forms
        if form not in ("ECF", limit)
    ]
    print_rows("ecf", rows, events=size)


if __name__ == "__main__":
    main()
