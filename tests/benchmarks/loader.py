"""The loader at 304x240 uint8: frames/s from our tensor files against gzip files read by plain h5py.

`python tests/benchmarks/loader.py [--workers 2 1 0] [--rounds N] [--augment]`. Writes its own files, of clustered
events, to a temporary folder. The peers are the same loader on gzip files, and a loader as it is usually written:
h5py, float32 in the loader process, tensors sent one by one. Rounds are interleaved in one process and their medians
compared. `copy` is the speed at which one process copies such frames as float32 from memory to memory.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from detector.config import Config
from detector.data.storage import create_tensors, write_frames
from detector.data_factory import psee_data
from detector.events.types import BBOX_dtype

STEPS, STREAMS, HEIGHT, WIDTH, DELTA_T = 12, 4, 240, 304, 50_000
FILES, FRAMES = 4, 600
TRAINING_STEP = 20
"""Frames/s that training on two CPU cores consumes, see training_step.py."""


def _events(rng: np.random.Generator, share: float = 0.03) -> np.ndarray:
    """Counts along moving edges, and noise: about so large a share of the pixels is not 0."""
    frames = np.zeros((FRAMES, 2, HEIGHT, WIDTH), np.uint8)
    number, edges = int(share * 3 * HEIGHT * WIDTH), 12
    centre, speed = rng.uniform(0, WIDTH, (edges, 2)), rng.uniform(-4, 4, (edges, 2))
    angle, length = rng.uniform(0, np.pi, edges), rng.uniform(20, 120, edges)
    for k, frame in enumerate(frames):
        edge = rng.integers(0, edges, number)
        along, across = rng.uniform(-1, 1, number) * length[edge], rng.normal(0, 2, number)
        x = centre[edge, 0] + speed[edge, 0] * k + along * np.cos(angle[edge]) - across * np.sin(angle[edge])
        y = centre[edge, 1] + speed[edge, 1] * k + along * np.sin(angle[edge]) + across * np.cos(angle[edge])
        noise = rng.random(number) < 0.2
        x, y = np.where(noise, rng.uniform(0, WIDTH, number), x), np.where(noise, rng.uniform(0, HEIGHT, number), y)
        np.add.at(frame, (rng.integers(0, 2, number), y.astype(int) % HEIGHT, x.astype(int) % WIDTH), 1)
    return np.minimum(frames, 5)


def _write(folder: Path, recordings: list[np.ndarray], ours: bool) -> None:
    (folder / "train").mkdir(parents=True)
    (folder / "label_map_dictionary.json").write_text('{"0": "car"}')
    rows = [((k + 1) * DELTA_T, 50, 50, 90, 60, 0, 0, 1) for k in range(0, FRAMES, 5)]
    for index, data in enumerate(recordings):
        with h5py.File(folder / "train" / f"rec{index}.h5", "w") as file:
            if ours:
                write_frames(create_tensors(file, data.shape, data.dtype), 0, data)
            else:
                file.create_dataset("data", data=data, chunks=(1, *data.shape[1:]), compression="gzip")
        np.save(folder / "train" / f"rec{index}_bbox.npy", np.array(rows, BBOX_dtype))


class _Usual(Dataset):
    """Sequences as a first version of a loader would read them."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted((folder / "train").glob("*.h5"))
        self.files: dict[Path, h5py.File] = {}

    def __len__(self) -> int:
        return FRAMES // STEPS * FILES // STREAMS

    def __getitem__(self, index: int) -> torch.Tensor:
        streams = []
        for path in self.paths:
            file = self.files.setdefault(path, h5py.File(path, "r"))
            streams.append(torch.from_numpy(file["data"][index * STEPS : (index + 1) * STEPS]).float() / 5)
        return torch.stack(streams, 1)


def _ours(folder: Path, workers: int, augment: bool) -> Iterable:
    leaves = {"dataset_path": str(folder), "num_tbins": STEPS, "batch_size": STREAMS, "num_workers": workers}
    settings = {f"data.{key}": value for key, value in {**leaves, "augment": augment}.items()}
    return psee_data(Config().with_overrides(settings).to_hparams(), "train")


def _usual(folder: Path, workers: int) -> Iterable:
    return DataLoader(_Usual(folder), batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def _frames_per_s(loader: Iterable) -> float:
    start, frames = time.perf_counter(), 0
    for batch in loader:
        frames += STEPS * STREAMS
        del batch
    return frames / (time.perf_counter() - start)


def _copy_limit() -> float:
    source, target = (torch.zeros(STEPS, STREAMS, 2, HEIGHT, WIDTH) for _ in range(2))
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    return STEPS * STREAMS / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 1, 0], help="loader processes")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each form")
    parser.add_argument("--augment", action="store_true", help="with augmentation")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        recordings = [_events(np.random.default_rng(index)) for index in range(FILES)]
        for form in ("ours", "gzip"):
            _write(Path(name) / form, recordings, ours=form == "ours")
        active = np.count_nonzero(recordings[0]) / recordings[0].size
        size = sum(path.stat().st_size for path in Path(name).glob("ours/train/*.h5")) / FILES / recordings[0].nbytes
        print(f"{active:.1%} of the values are not 0; our files have {size:.1%} of their bytes")
        limit = _copy_limit()
        for workers in args.workers:
            found[workers] = _compare(Path(name), workers, args)
            print(_line(workers, found[workers], limit))
    print(json.dumps({"benchmark": "loader", "augment": args.augment, "frames_per_s": found, "copy_limit": limit}))


def _compare(folder: Path, workers: int, args: argparse.Namespace) -> dict[str, float]:
    """Medians of interleaved epochs, after one to warm up."""
    forms: dict[str, Callable[[], Iterable]] = {
        "ours": lambda: _ours(folder / "ours", workers, args.augment),
        "ours on gzip": lambda: _ours(folder / "gzip", workers, args.augment),
        "usual on gzip": lambda: _usual(folder / "gzip", workers),
    }
    loaders = {name: make() for name, make in forms.items()}
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(args.rounds + 1):
        for name, loader in loaders.items():
            rates[name].append(_frames_per_s(loader))
    return {name: statistics.median(values[1:]) for name, values in rates.items()}


def _line(workers: int, rates: dict[str, float], limit: float) -> str:
    ours = rates["ours"]
    ratios = ", ".join(f"{ours / rate:.2f} x {name} ({rate:.0f})" for name, rate in rates.items() if name != "ours")
    return (
        f"{workers} workers: {ours:.0f} frames/s = {ratios}; "
        f"{ours / TRAINING_STEP:.0f} x the training step; {ours / limit:.0%} of copy"
    )


if __name__ == "__main__":
    main()
