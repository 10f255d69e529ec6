"""Synthetic recordings: a drawn street seen by a simulated event camera, with labels, as real files.

What is there to learn: cars and pedestrians of several sizes and speeds that enter, leave and hide one another, in
front of a street that moves as the camera turns. At times the camera rests, and about a third of the objects rest then
too, for a second: their events cease while their labels go on, so only a detector with memory keeps them.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detector.events import BBOX_dtype, write_dat
from detector.labels import save_labels
from detector.synthetic.scene import Scene, make_scene
from detector.synthetic.simulator import noise_events, sort_events, threshold_crossings
from detector.synthetic.sprites import CAR, PEDESTRIAN
from detector.utils.atomic_write import atomic_write

__all__ = ["CLASSES", "make_recording", "write_dataset"]

CLASSES = {PEDESTRIAN: "pedestrian", CAR: "car"}
"""Label map of the recordings."""

SPLITS = ("train", "val", "test")
MIN_SIDE = 48
"""Smallest frame side in pixels: below it, the drawings have no parts left."""

RENDER_HZ = 200
MIN_VISIBLE = 0.4
"""Part of an object that must be inside the frame and not hidden for it to have a label."""

THRESHOLD, THRESHOLD_SPREAD = 0.18, 0.02
"""Contrast threshold in log intensity: mean and standard deviation over the pixels."""

NOISE_HZ, HOT_HZ, NUM_HOT_PIXELS = 0.2, (50.0, 200.0), 4
"""Noise events a second of a pixel, and those of the hot pixels."""

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
    """Write recordings with labels: `output/<split>/<name>_td.dat`, `<name>_bbox.npy` and the label map.

    A recording depends on the seed, its split and its number alone. Files of the same names are replaced.

    Args:
        output: folder to write to, made if it is not there.
        num_recordings: recordings for each of train, val and test.
        duration_s: seconds of a recording.
        height: frame height in pixels.
        width: frame width in pixels.
        seed: seed of all randomness.
        label_period_us: microseconds from one labelled time to the next; they are multiples of it.
        progress: whether to show a bar.

    Returns:
        `output`.

    Raises:
        ValueError: an unknown split, a number of recordings below 0, or a duration, size, seed or period out of range.
    """
    _check(num_recordings, duration_s, height, width, seed, label_period_us)
    output = Path(output)
    jobs = [(split, index) for split, count in num_recordings.items() for index in range(count)]
    for split, index in tqdm(jobs, desc="synthetic recordings", unit="recording", disable=not progress):
        rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
        events, labels = make_recording(rng, duration_s, height, width, label_period_us)
        folder = output / split
        folder.mkdir(parents=True, exist_ok=True)
        name = f"synthetic_{split}_{index:03d}"
        save_labels(folder / f"{name}_bbox.npy", labels)
        write_dat(folder / f"{name}_td.dat", events, height, width)
    _write_label_map(output / "label_map_dictionary.json")
    return output


def make_recording(
    rng: np.random.Generator, duration_s: float, height: int, width: int, label_period_us: int
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate one recording, which starts at a random time.

    Args:
        rng: source of all randomness.
        duration_s: seconds.
        height: frame height in pixels.
        width: frame width in pixels.
        label_period_us: microseconds from one labelled time to the next.

    Returns:
        `EventCD` events sorted by time, and `BBOX_dtype` labels of the times that are multiples of the period.
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
    """Boxes of the objects that can be seen, cropped to the frame, at every multiple of the period."""
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


def _write_label_map(path: Path) -> None:
    with atomic_write(path) as part:
        part.write_text(json.dumps({str(key): name for key, name in CLASSES.items()}, indent=2) + "\n")


def _check(
    num_recordings: Mapping[str, int], duration_s: float, height: int, width: int, seed: int, label_period_us: int
) -> None:
    for split, count in num_recordings.items():
        if split not in SPLITS:
            raise ValueError(f"num_recordings: got split {split!r}, allowed: {', '.join(SPLITS)}")
        if count < 0:
            raise ValueError(f"num_recordings: got {count} for {split}, allowed: at least 0")
    for name, value in (("height", height), ("width", width)):
        if not MIN_SIDE <= value <= 2048:
            raise ValueError(f"{name}: got {value}, allowed: {MIN_SIDE} to 2048 pixels")
    for name, number in (("duration_s", duration_s), ("label_period_us", label_period_us)):
        if number <= 0:
            raise ValueError(f"{name}: got {number}, allowed: a number above 0")
    if seed < 0:
        raise ValueError(f"seed: got {seed}, allowed: a number of at least 0")
