"""Frames/s of a training as `evforge train` runs it in a worker, reading included, against the bare step in a loop.

`python tests/benchmarks/end_to_end.py [--rounds N] [--steps N] [--recordings N N] [--small]`. One thread, two loader
processes, 304x240. A round is an epoch of `evforge.training.train.fit` (what a worker of Ray Train calls) and, right
after it in the same process, as many bare steps of another detector on one batch that is there already: loss, gradient,
clipping, optimizer. The rounds are done with datasets of two lengths, to show that the rate does not depend on it; an
epoch has the same number of steps in both.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytorch_lightning as pl
import torch
from rounds import Row, arguments, parse, print_rows

sys.path.insert(0, str(Path(__file__).parents[1]))

from toy_dataset import write_toy_dataset

from detector.config import Config
from detector.data.tensor_file import create_tensors, write_frames
from detector.events import BBOX_dtype
from detector.labels import save_labels
from detector.lightning_model import LightningDetectionModel
from detector.utils.precision import resolve_precision
from evforge.training.train import check_config, fit

STEPS, STREAMS, HEIGHT, WIDTH, DELTA_T, FRAMES = 10, 2, 240, 304, 50_000, 200


class BareSteps(pl.Callback):
    """Times each epoch but the first, and after it the bare step as often."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rates: list[tuple[float, float]] = []
        self.batch: dict[str, Any] | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.batch = args[1]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self.start
        if trainer.current_epoch == 0:
            self.model = LightningDetectionModel(self.config.to_hparams()).to(pl_module.device)
            self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
            self._step(trainer)
            return
        steps = trainer.num_training_batches
        start = time.perf_counter()
        for _ in range(steps):
            self._step(trainer)
        frames = steps * self.batch["inputs"].shape[0] * self.batch["inputs"].shape[1]
        self.rates.append((frames / seconds, frames / (time.perf_counter() - start)))

    def _step(self, trainer: pl.Trainer) -> None:
        batch = self.batch
        with trainer.precision_plugin.forward_context():
            losses = self.model.detector.compute_loss(
                batch["inputs"], batch["labels"], batch["mask_keep_memory"], batch["frame_is_labeled"]
            )
        self.optimizer.zero_grad()
        (losses["cls_loss"] + losses["loc_loss"]).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if batch["inputs"].is_cuda:
            torch.cuda.synchronize()


def _write(folder: Path, recordings: int) -> Path:
    """A dataset of noise with a box in every frame."""
    rng = np.random.default_rng(0)
    rows = [((k + 1) * DELTA_T, 50, 50, 90, 60, 0, 0, 1) for k in range(FRAMES)]
    (folder / "label_map_dictionary.json").write_text(json.dumps({"0": "car"}))
    for split, count in (("train", recordings), ("val", 1)):
        (folder / split).mkdir()
        data = (rng.random((FRAMES, 2, HEIGHT, WIDTH)) < 0.03).astype(np.uint8)
        for index in range(count):
            with h5py.File(folder / split / f"rec{index}.h5", "w") as file:
                write_frames(create_tensors(file, data.shape, data.dtype), 0, data)
            save_labels(folder / split / f"rec{index}_bbox.npy", np.array(rows, BBOX_dtype))
    return folder


def _config(folder: Path, recordings: int, args: argparse.Namespace) -> Config:
    settings = {"data.num_tbins": STEPS, "data.batch_size": STREAMS, "data.num_workers": 2, "data.skip_us": 0}
    if args.small:
        dataset = write_toy_dataset(folder / "toy", {"train": 2, "val": 1})
        settings |= {"model.feature_base": 2, "model.feature_channels_out": 8, "data.num_workers": 0}
        settings |= {"data.min_box_diag": 0, "data.min_box_side": 0, "train.precision": "32-true"}
    else:
        dataset = _write(folder, recordings)
    settings |= {
        "data.dataset_path": str(dataset),
        "data.augment": False,
        "train.max_epochs": args.rounds + 1,
        "train.val_every": args.rounds + 1,
        "train.limit_train_batches": args.steps,
        "train.limit_val_batches": 1,
    }
    return check_config(Config().with_overrides(settings))


def _measure(recordings: int, args: argparse.Namespace) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        config = _config(Path(folder), recordings, args)
        bare = BareSteps(config)
        fit(config, [bare], threads=args.threads, use_gpu=torch.cuda.is_available())
    return tuple(statistics.median(rates) for rates in zip(*bare.rates, strict=True))


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--steps", type=int, default=6, help="steps of an epoch (6)")
    parser.add_argument("--recordings", type=int, nargs=2, default=[4, 40], help="recordings of the two datasets")
    args = parse(parser)
    args.steps = 2 if args.small else args.steps
    short, long = (_measure(count, args) for count in args.recordings)
    precision = resolve_precision("auto", torch.cuda.is_available())
    figures = f"{short[0]:.1f} frames/s", f"{short[1]:.1f} frames/s"
    grown = f"{long[0]:.1f} frames/s", f"{short[0]:.1f} frames/s"
    few, many = args.recordings
    rows = [
        Row(f"end to end, {precision}, one worker", "the bare training step", *figures, short[0] / short[1], 0.95),
        Row(
            f"end to end, {many} recordings, bare step",
            f"{few} recordings",
            *grown,
            long[0] / long[1] / short[0] * short[1],
            0.95,
        ),
    ]
    print_rows("end_to_end", rows, threads=args.threads)


if __name__ == "__main__":
    main()
