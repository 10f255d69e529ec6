"""Recordings of two seconds and a few pixels, with labels."""

from pathlib import Path

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
