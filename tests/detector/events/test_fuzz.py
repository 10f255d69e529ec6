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

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "helpers"))

from event_samples import events_at, evt21_bytes, evt21_header

from detector.events import open_events, write_dat, write_evt2, write_evt3

FORMATS = ["DAT", "EVT2", "EVT2.1 legacy", "EVT2.1 little", "EVT3"]
LONGEST = 20.0
"""Seconds after which a file counts as a hang."""


def sound_file(folder, name):
    """Bytes of a small recording, of a few hundred events over more than one TIME_HIGH."""
    rng = np.random.default_rng(5)
    events = events_at(np.sort(rng.integers(10_000, 40_000, 400)))
    events["x"][100:200], events["y"][100:200], events["t"][100:200] = np.arange(100, 200), 7, events["t"][100]
    if name.startswith("EVT2.1"):
        order = name.split()[1]
        return evt21_header(order) + evt21_bytes(events, order)
    write = {"DAT": write_dat, "EVT2": write_evt2, "EVT3": write_evt3}[name]
    write(folder / "sound", events, 480, 640)
    return (folder / "sound").read_bytes()


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
    except (ValueError, FileNotFoundError) as error:
        assert "\n" not in str(error)
        assert str(path) in str(error), error
        return False
    return True


def try_files(folder, name, count, seed):
    """How many of `count` broken files were read and how many refused."""
    rng, sound = np.random.default_rng(seed), sound_file(folder, name)
    results, path = Counter(), folder / "broken"
    for _ in range(count):
        path.write_bytes(mutate(sound, rng))
        start = time.perf_counter()
        results["read" if use(path) else "refused"] += 1
        results["hangs"] += time.perf_counter() - start > LONGEST
    return results


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FORMATS)
def test_broken_files(tmp_path, name):
    path = tmp_path / "sound"
    path.write_bytes(sound_file(tmp_path, name))
    assert use(path)
    results = try_files(tmp_path, name, 300, seed=FORMATS.index(name))
    assert results["read"] > 10 and results["refused"] > 100 and results["hangs"] == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="files of each format")
    parser.add_argument("--seed", type=int, default=1, help="begins the random numbers")
    args = parser.parse_args()
    faulthandler.enable()
    for name in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            results = try_files(Path(folder), name, args.count, args.seed)
            seconds = time.perf_counter() - start
        counts = ", ".join(f"{results[key]} {key}" for key in ("read", "refused", "hangs"))
        print(f"{name:<14} {args.count} files, no crash: {counts}, {seconds:.1f} s")


if __name__ == "__main__":
    main()
