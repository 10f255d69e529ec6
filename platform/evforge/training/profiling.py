"""Costs of a detector and of its training on this machine: parameters, latency, frames per second."""

import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from detector.config import Config
from detector.utils.modes import evaluating

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from detector.lightning_model import LightningDetectionModel

__all__ = ["measure_rate", "measure_speed", "median_seconds", "model_costs"]

WARM_UP, TRAINING_FRAMES, EXPORT_FRAMES = 3, 9, 15


def median_seconds(call: Callable[[], Any], device: torch.device, warm_up: int, rounds: int) -> float:
    """Return the median duration in seconds of the calls of a function.

    Args:
        call: function to measure.
        device: device on which the function computes. The measured time ends when this device has finished.
        warm_up: number of calls before the first measured call.
        rounds: number of measured calls.
    """
    seconds = []
    for _ in range(warm_up + rounds):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[warm_up:])


def model_costs(trainer: "pl.Trainer", model: "LightningDetectionModel") -> dict[str, float]:
    """Measure the size and speed of a detector. This clears the recurrent state of the detector.

    Args:
        trainer: trainer whose precision is used.
        model: model that has already processed a batch, so that it knows the frame size.

    Returns:
        Dict with two values. `parameters` is the number of parameters. `latency_ms` is the median time in milliseconds
        that the network needs for one frame on the model's device, without the decoding of boxes.
    """
    assert model.height is not None and model.width is not None
    frame = torch.zeros(1, 1, model.detector.in_channels, model.height, model.width, device=model.device)
    with torch.no_grad(), evaluating(model), trainer.precision_plugin.forward_context():
        seconds = median_seconds(lambda: model(frame), model.device, WARM_UP, TRAINING_FRAMES)
    model.detector.reset_all()
    return {"parameters": float(sum(value.numel() for value in model.parameters())), "latency_ms": 1000 * seconds}


def measure_rate(config: Config, threads: int, use_gpu: bool) -> float:
    """Measure the speed of training in this process, and return it in frames per second.

    Two training steps are run, and the second one is measured. The time includes the reading of the data.

    Args:
        config: checked settings.
        threads: number of torch threads.
        use_gpu: whether to train on the GPU.
    """
    from detector.data_factory import psee_data
    from detector.lightning_model import LightningDetectionModel
    from detector.optim.optimizers import build_optimizer
    from detector.utils.precision import resolve_precision

    device = torch.device("cuda" if use_gpu else "cpu")
    precision = resolve_precision(config.train.precision, use_gpu)
    kind = torch.float16 if precision == "16-mixed" else torch.bfloat16
    model = LightningDetectionModel(config.to_hparams()).to(device)
    optimizer = build_optimizer(model.parameters(), config.optim)
    loader = psee_data(config.with_overrides({"data.num_workers": 0}).to_hparams(), "train")

    def step() -> None:
        batch = model.transfer_batch_to_device(next(iter(loader)), device, 0)
        with torch.autocast(device.type, kind, enabled=precision != "32-true"):
            losses = model.detector.compute_loss(
                batch["inputs"], batch["labels"], batch["mask_keep_memory"], batch["frame_is_labeled"]
            )
        optimizer.zero_grad()
        (losses["cls_loss"] + losses["loc_loss"]).backward()
        optimizer.step()

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = median_seconds(step, device, warm_up=1, rounds=1)
    finally:
        torch.set_num_threads(before)
    return math.prod(loader.dataset.dataset.shape[:2]) / seconds


def measure_speed(exported: Path) -> dict[str, str]:
    """Measure the speed of an exported detector on this machine, including the decoding of boxes.

    Args:
        exported: folder with `model.ptjit` and `info_ssd_jit.json`.

    Returns:
        Dict from labels to texts for display, such as the frame size and the median time.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the two files do not belong together.
    """
    from detector.export.bundle import load_exported

    loaded, info, device = load_exported(exported)
    frame = torch.rand(1, 1, info["in_channels"], info["height"], info["width"], device=device)
    thresholds = info["score_thresh"], info["nms_thresh"], info["max_boxes_per_input"]
    with torch.inference_mode():
        median = median_seconds(lambda: loaded.detect(frame, *thresholds), device, WARM_UP, EXPORT_FRAMES)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.machine()}"
    return {
        "frame": f"{info['width']} x {info['height']}, one stream, boxes included",
        "median time": f"{1000 * median:.1f} ms, of {EXPORT_FRAMES} frames",
        "real-time factor": f"{info['delta_t'] / 1e6 / median:.1f} at {info['delta_t'] / 1000:g} ms per frame",
        "where": f"{where}, threads: {torch.get_num_threads()}, torch {torch.__version__}",
    }
