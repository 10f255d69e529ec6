"""Broken recordings of every kind give a ValueError or events, never anything else.

`python tests/detector/events/test_fuzz.py --count N` tries N files of each format and says what came of them.
"""

import argparse
import faulthandler
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "helpers"))

from aedat4_samples import event_file
from event_samples import events_at, evt21_bytes, evt21_header

from detector.events import open_events, write_dat, write_evt2, write_evt3

FORMATS = ["DAT", "EVT2", "EVT2.1 legacy", "EVT2.1 little", "EVT3"]
CONTAINERS = ["HDF5 columns", "HDF5 table", "NPZ", "CSV", "AEDAT4"]
LONGEST = 60.0
"""CPU seconds after which a file counts as a hang."""


def sound_file(folder, name):
    """Bytes of a small recording, of a few hundred events over more than one TIME_HIGH."""
    rng = np.random.default_rng(5)
    events = events_at(np.sort(rng.integers(10_000, 40_000, 400)))
    events["x"][100:200], events["y"][100:200], events["t"][100:200] = np.arange(100, 200), 7, events["t"][100]
    if name in CONTAINERS:
        return container_bytes(folder / "sound", name, events)
    if name.startswith("EVT2.1"):
        order = name.split()[1]
        return evt21_header(order) + evt21_bytes(events, order)
    write = {"DAT": write_dat, "EVT2": write_evt2, "EVT3": write_evt3}[name]
    write(folder / "sound", events, 480, 640)
    return (folder / "sound").read_bytes()


def container_bytes(path, name, events):
    """Bytes of a file in a general container that contains the events and the size of the sensor."""
    if name == "AEDAT4":
        return event_file(np.split(events, [100, 250]), compression=3)
    if name == "CSV":
        np.savetxt(
            path, np.stack([events[field] for field in "xypt"], 1), "%d", ",", header="x@640,y@480,p,t", comments=""
        )
    elif name == "NPZ":
        with path.open("wb") as file:
            np.savez(file, height=480, width=640, **{field: events[field] for field in "xypt"})
    else:
        with h5py.File(path, "w") as file:
            file.attrs["sensor_resolution"] = 480, 640
            if name == "HDF5 table":
                rows = np.stack([events[field] for field in "txyp"], 1)
                file.create_dataset("events", data=rows, chunks=(64, 4), compression="gzip")
            for field in "xypt" if name == "HDF5 columns" else "":
                file.create_dataset(f"events/{field}", data=events[field], chunks=(64,))
    return path.read_bytes()


def flip(data, rng):
    """Change single bytes, which leaves most of the structure of a container."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        data[int(rng.integers(0, len(data)))] = int(rng.choice([0, 1, 128, 255, rng.integers(0, 256)]))
    return bytes(data)


def mutate(data, rng):
    """Break a file: bits flipped, cut off, bytes inserted, taken out or repeated, the header damaged."""
    data = bytearray(data)
    header = data.rfind(b"\n", 0, 400) + 1
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, max(1, len(data))))
        match int(rng.integers(0, 7)):
            case 0:
                for bit in rng.integers(0, max(1, 8 * len(data)), rng.integers(1, 9)).tolist():
                    if data:
                        data[bit // 8] ^= 1 << bit % 8
            case 1:
                del data[place:]
            case 2:
                data[place:place] = rng.bytes(int(rng.integers(1, 12)))
            case 3:
                del data[place : place + int(rng.integers(1, 12))]
            case 4:
                data[place:place] = data[place : place + 64]
            case 5 if data:
                data[int(rng.integers(0, min(header + 1, len(data))))] = int(rng.integers(0, 256))
            case 6:
                data[header:header] = rng.choice([b"%", b"% end\n", b"% width 99999999999999999999\n", b"% evt 3.0\n"])
    return bytes(data)


def use(path):
    """Everything a reader does; returns whether the file was taken for a sound one."""
    try:
        with open_events(path) as reader:
            whole = reader.read()
            assert (reader.first_t is None) == (reader.last_t is None) == (whole.size == 0)
            assert not whole.size or (whole["x"].max() < reader.width and whole["y"].max() < reader.height)
            assert bool((np.diff(whole["t"]) >= 0).all())
            assert sum(len(batch) for batch in reader.batches(150)) == whole.size
            for start, events in islice(reader.windows(5000), 8):
                assert not events.size or start <= events["t"][0] <= events["t"][-1] < start + 5000
            reader.triggers()
            reader.frame_times()
    except (ValueError, FileNotFoundError) as error:
        assert "\n" not in str(error)
        assert str(path) in str(error), error
        return False
    return True


def try_files(folder, name, count, seed):
    """How many of `count` broken files were read and how many refused."""
    rng, sound = np.random.default_rng(seed), sound_file(folder, name)
    results, path = Counter(), folder / "broken"
    for index in range(count):
        change = flip if name in CONTAINERS and index % 2 else mutate
        path.write_bytes(change(sound, rng))
        start = time.process_time()
        results["read" if use(path) else "refused"] += 1
        results["hangs"] += time.process_time() - start > LONGEST
    return results


@pytest.mark.parametrize("name", FORMATS + CONTAINERS)
def test_broken_files(tmp_path, name):
    path = tmp_path / "sound"
    path.write_bytes(sound_file(tmp_path, name))
    assert use(path)
    results = try_files(tmp_path, name, 300, seed=(FORMATS + CONTAINERS).index(name))
    assert results["read"] > 2 and results["refused"] > 80 and results["hangs"] == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="files of each format")
    parser.add_argument("--seed", type=int, default=1, help="begins the random numbers")
    args = parser.parse_args()
    faulthandler.enable()
    for name in FORMATS + CONTAINERS:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            results = try_files(Path(folder), name, args.count, args.seed)
            seconds = time.perf_counter() - start
        counts = ", ".join(f"{results[key]} {key}" for key in ("read", "refused", "hangs"))
        print(f"{name:<14} {args.count} files, no crash: {counts}, {seconds:.1f} s")


if __name__ == "__main__":
    main()
