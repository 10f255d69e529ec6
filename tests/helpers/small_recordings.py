"""Recordings of two seconds and a few pixels, with labels."""

from pathlib import Path

import h5py
import numpy as np

from detector.config.groups import DataConfig
from detector.events import BBOX_dtype, EventCD, write_dat, write_evt2
from detector.labels import save_labels

HEIGHT, WIDTH, DELTA_T = 8, 12, 100_000
START = 1_200_000
NAMES = {0: "walker", 3: "car"}


def make_events(first=1_234_000, last=3_150_000, count=3000):
    rng = np.random.default_rng(0)
    events = np.zeros(count, EventCD)
    events["t"] = np.sort(rng.integers(first, last, count))
    events["t"][[0, -1]] = first, last
    events["x"] = rng.integers(0, WIDTH, count)
    events["y"] = rng.integers(0, HEIGHT, count)
    events["p"] = rng.integers(0, 2, count)
    return events


def make_labels(times, class_id=3):
    labels = np.zeros(len(times), BBOX_dtype)
    labels["t"] = times
    labels["w"] = labels["h"] = 4
    labels["class_id"] = class_id
    return labels


def make_recording(folder, name="street_td.dat", events=None, times=(1_300_000, 2_000_000, 2_500_000)):
    """20 frames of 100 ms, from 1.2 s to 3.2 s, with labels."""
    folder.mkdir(parents=True, exist_ok=True)
    write = write_evt2 if name.endswith("raw") else write_dat
    write(folder / name, make_events() if events is None else events, HEIGHT, WIDTH)
    save_labels(folder / f"{Path(name).stem.removesuffix('_td')}_bbox.npy", make_labels(times))
    return folder / name


def config(**changes):
    return DataConfig(**{"delta_t": DELTA_T, **changes})


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def tensors(path):
    """Frames and attributes of a tensor file."""
    with h5py.File(path) as file:
        return file["data"][:], dict(file["data"].attrs)


def count(events, start, frames, shift=0):
    """Events of each frame, polarity and cell of 2^shift x 2^shift pixels, at most 5."""
    counts = np.zeros((frames, 2, HEIGHT >> shift, WIDTH >> shift), np.int64)
    inside = events[(events["t"] >= start) & (events["t"] < start + frames * DELTA_T)]
    for x, y, p, t in inside.tolist():
        counts[(t - start) // DELTA_T, p, y >> shift, x >> shift] += 1
    return np.minimum(counts, 5)
