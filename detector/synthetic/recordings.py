"""Synthetic recordings of a drawn street by a simulated event camera, written with labels to real file formats.

Cars and pedestrians of several sizes and speeds enter the frame, occlude one another and leave, in front of a street
that moves because the camera pans. Sometimes the camera stops, and some objects stop at the same time for about a
second. In total, about a third of the objects stop. A stopped object causes no events but still has labels, so only a
recurrent detector can continue to detect it.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detector.config.checks import require, require_choice
from detector.events import BBOX_dtype, write_dat
from detector.labels import save_labels
from detector.synthetic.scene import Scene, make_scene
from detector.synthetic.simulator import noise_events, sort_events, threshold_crossings
from detector.synthetic.sprites import CAR, PEDESTRIAN
from detector.utils.atomic_write import atomic_write

__all__ = ["CLASSES", "make_recording", "write_dataset"]

CLASSES = {PEDESTRIAN: "pedestrian", CAR: "car"}
"""Class names of the recordings by label map id."""

SPLITS = ("train", "val", "test")
MIN_SIDE, MAX_SIDE = 48, 2048
"""Smallest and largest frame height and width in pixels. In smaller frames, parts of the drawings vanish."""

RENDER_HZ = 200
MIN_VISIBLE = 0.4
"""An object is labelled only if at least this share of it is inside the frame and not occluded."""

THRESHOLD, THRESHOLD_SPREAD = 0.18, 0.02
"""Mean and standard deviation of the contrast thresholds of the pixels, in log intensity."""

NOISE_HZ, HOT_HZ, NUM_HOT_PIXELS = 0.2, (50.0, 200.0), 4
"""Noise events per second of normal pixels, range of this rate for hot pixels, and number of hot pixels."""

DEFAULT_RECORDINGS = {"train": 12, "val": 3, "test": 3}


def write_dataset(
    output: str | Path,
    num_recordings: Mapping[str, int] = DEFAULT_RECORDINGS,
    duration_s: float = 10.0,
    height: int = 120,
    width: int = 160,
    *,
    seed: int = 0,
    label_period_us: int = 50_000,
    progress: bool = True,
) -> Path:
    """Write recordings `output/<split>/<name>_td.dat`, their labels `<name>_bbox.npy`, and the label map.

    A recording depends only on the settings, the seed, its split and its number, not on the other recordings. Existing
    files with the same names are replaced.

    Args:
        output: folder to write to, created if missing.
        num_recordings: number of recordings by split (train, val, test).
        duration_s: duration of a recording in seconds.
        height: frame height in pixels.
        width: frame width in pixels.
        seed: seed of all randomness.
        label_period_us: microseconds between labelled times. Labelled times are multiples of this period.
        progress: whether to show a progress bar.

    Returns:
        Path of the folder `output`.

    Raises:
        ValueError: a split is unknown, or a number, duration, size, seed or period is out of range.
    """
    _check(num_recordings, duration_s, height, width, seed, label_period_us)
    output = Path(output)
    jobs = [(split, index) for split, count in num_recordings.items() for index in range(count)]
    for split, index in tqdm(jobs, desc="synthetic recordings", unit="recording", disable=not progress or None):
        rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
        events, labels = make_recording(rng, duration_s, height, width, label_period_us)
        path = output / split / f"synthetic_{split}_{index:03d}"
        save_labels(f"{path}_bbox.npy", labels)
        write_dat(f"{path}_td.dat", events, height, width)
    with atomic_write(output / "label_map_dictionary.json") as part:
        part.write_text(json.dumps({str(key): name for key, name in CLASSES.items()}, indent=2) + "\n")
    return output


def make_recording(
    rng: np.random.Generator, duration_s: float, height: int, width: int, label_period_us: int
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate one recording that starts at a random time.

    Args:
        rng: source of all randomness.
        duration_s: duration in seconds.
        height: frame height in pixels.
        width: frame width in pixels.
        label_period_us: microseconds between labelled times.

    Returns:
        `EventCD` events sorted by time, and `BBOX_dtype` labels at multiples of the period.
    """
    step_us = 1_000_000 // RENDER_HZ
    num_moments = max(2, round(duration_s * RENDER_HZ) + 1)
    start = int(rng.integers(1_000_000, 60_000_000))
    times = start + step_us * np.arange(num_moments)
    scene = make_scene(rng, num_moments, RENDER_HZ, height, width)
    thresholds = np.clip(rng.normal(THRESHOLD, THRESHOLD_SPREAD, (2, height, width)), 0.5 * THRESHOLD, None)
    frames = ((int(time), scene.render(moment)) for moment, time in enumerate(times))
    seen = threshold_crossings(frames, *thresholds)
    noise = noise_events(rng, _noise_rates(rng, height, width), int(times[0]), int(times[-1]))
    return sort_events([seen, noise]), _label(scene, times, label_period_us)


def _noise_rates(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    rates = np.full(height * width, NOISE_HZ)
    rates[rng.choice(rates.size, NUM_HOT_PIXELS, replace=False)] = rng.uniform(*HOT_HZ, NUM_HOT_PIXELS)
    return rates.reshape(height, width)


def _label(scene: Scene, times: np.ndarray, period_us: int) -> np.ndarray:
    """Create the labels of visible objects, cropped to the frame, at every multiple of the period."""
    first = (times[0] // period_us + 1) * period_us
    rows = [row for time in range(int(first), int(times[-1]) + 1, period_us) for row in _boxes_at(scene, times, time)]
    return np.array(rows, BBOX_dtype)


def _boxes_at(scene: Scene, times: np.ndarray, time: int) -> Iterator[tuple[float, ...]]:
    position = np.interp(time, times, np.arange(len(times)))
    for index, visible in scene.visible_fractions(round(float(position))).items():
        if visible < MIN_VISIBLE:
            continue
        thing = scene.objects[index]
        age = position - thing.first
        life = np.arange(len(thing.x))
        left, top = np.interp(age, life, thing.x), np.interp(age, life, thing.y)
        h, w = thing.sprite.shape[2:]
        x1, x2 = np.clip([left, left + w], 0, scene.width)
        y1, y2 = np.clip([top, top + h], 0, scene.height)
        yield time, x1, y1, x2 - x1, y2 - y1, thing.class_id, thing.track_id, 1.0


def _check(
    num_recordings: Mapping[str, int], duration_s: float, height: int, width: int, seed: int, label_period_us: int
) -> None:
    for split, count in num_recordings.items():
        require_choice("num_recordings", split, SPLITS)
        require(count >= 0, f"num_recordings of {split}", count, "a number of at least 0")
    for name, side in (("height", height), ("width", width)):
        require(MIN_SIDE <= side <= MAX_SIDE, name, side, f"{MIN_SIDE} to {MAX_SIDE} pixels")
    require(duration_s > 0, "duration_s", duration_s, "a number above 0")
    require(label_period_us > 0, "label_period_us", label_period_us, "a number above 0")
    require(seed >= 0, "seed", seed, "a number of at least 0")
