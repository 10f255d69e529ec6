"""The loader at 304x240 uint8: frames/s from our tensor files against gzip files read by plain h5py.

`python tests/benchmarks/loader.py [--workers 2 1 0] [--rounds N] [--augment] [--small]`. Writes its own files, of
clustered events, to a temporary folder. The peers are the same loader on gzip files, and a loader as it is usually
written: h5py, float32 in the loader process, tensors sent one by one. Rounds are interleaved in one process and their
medians compared. The limit is one process copying such frames as float32 from memory to memory.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from rounds import Row, arguments, medians, parse, print_rows
from torch.utils.data import DataLoader, Dataset

from detector.config import Config
from detector.data.tensor_file import create_tensors, write_frames
from detector.data_factory import psee_data
from detector.events.types import BBOX_dtype

STEPS, STREAMS, HEIGHT, WIDTH, DELTA_T = 12, 4, 240, 304, 50_000
FILES, FRAMES = 4, 600


def _events(rng: np.random.Generator, count: int, share: float = 0.03) -> np.ndarray:
    """Counts along moving edges, and noise: about so large a share of the pixels is not 0."""
    frames = np.zeros((count, 2, HEIGHT, WIDTH), np.uint8)
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
    rows = [((k + 1) * DELTA_T, 50, 50, 90, 60, 0, 0, 1) for k in range(0, len(recordings[0]), 5)]
    for index, data in enumerate(recordings):
        with h5py.File(folder / "train" / f"rec{index}.h5", "w") as file:
            if ours:
                write_frames(create_tensors(file, data.shape, data.dtype), 0, data)
            else:
                file.create_dataset("data", data=data, chunks=(1, *data.shape[1:]), compression="gzip")
        np.save(folder / "train" / f"rec{index}_bbox.npy", np.array(rows, BBOX_dtype))


class _Usual(Dataset):
    """Sequences as a first version of a loader would read them."""

    def __init__(self, folder: Path, frames: int) -> None:
        self.paths = sorted((folder / "train").glob("*.h5"))
        self.files: dict[Path, h5py.File] = {}
        self.frames = frames

    def __len__(self) -> int:
        return self.frames // STEPS * FILES // STREAMS

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


def _usual(folder: Path, workers: int, frames: int) -> Iterable:
    return DataLoader(_Usual(folder, frames), batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def _read(loader: Iterable) -> int:
    frames = 0
    for batch in loader:
        frames += STEPS * STREAMS
        del batch
    return frames


def _rows(folder: Path, workers: int, frames: int, args: argparse.Namespace) -> list[Row]:
    loaders: dict[str, Iterable] = {
        "ours": _ours(folder / "ours", workers, args.augment),
        "our loader on gzip": _ours(folder / "gzip", workers, args.augment),
        "usual loader on gzip": _usual(folder / "gzip", workers, frames),
    }
    source, target = (torch.zeros(STEPS, STREAMS, 2, HEIGHT, WIDTH) for _ in range(2))
    counts = {name: _read(loader) for name, loader in loaders.items()} | {"copy": STEPS * STREAMS}
    forms: dict[str, Callable[[], object]] = {name: partial(_read, loader) for name, loader in loaders.items()}
    found = medians({**forms, "copy": lambda: target.copy_(source)}, args.rounds)
    rates = {name: counts[name] / seconds for name, seconds in found.items()}
    path, share = f"loader, 304x240, {workers} processes", rates["ours"] / rates["copy"]
    return [
        Row(
            path,
            name,
            *(f"{rates[form]:.0f} frames/s" for form in ("ours", name)),
            rates["ours"] / rates[name],
            None,
            share,
        )
        for name in loaders
        if name != "ours"
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 1, 0], help="loader processes (2 1 0)")
    parser.add_argument("--augment", action="store_true", help="with augmentation")
    args = parse(parser)
    frames, rows = 2 * STEPS if args.small else FRAMES, []
    with tempfile.TemporaryDirectory() as name:
        recordings = [_events(np.random.default_rng(index), frames) for index in range(FILES)]
        for form in ("ours", "gzip"):
            _write(Path(name) / form, recordings, ours=form == "ours")
        active = np.count_nonzero(recordings[0]) / recordings[0].size
        size = sum(path.stat().st_size for path in Path(name).glob("ours/train/*.h5")) / FILES / recordings[0].nbytes
        print(f"{active:.1%} of the values are not 0; our files have {size:.1%} of their bytes")
        for workers in [0] if args.small else args.workers:
            rows += _rows(Path(name), workers, frames, args)
    print_rows("loader", rows, augment=args.augment)


if __name__ == "__main__":
    main()
