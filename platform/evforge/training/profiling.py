"""What a detector and its training cost here: parameters, latency, frames per second."""

import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from detector.config import Config
from detector.utils.modes import evaluating

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from detector.lightning_model import LightningDetectionModel

__all__ = ["measure_rate", "measure_speed", "model_costs"]

WARM_UP, TRAINING_FRAMES, EXPORT_FRAMES = 3, 9, 15


def model_costs(trainer: "pl.Trainer", model: "LightningDetectionModel") -> dict[str, float]:
    """Size and speed of a detector; its recurrent state is cleared.

    Args:
        trainer: gives the precision.
        model: one that has seen a batch, whose size a frame has.

    Returns:
        `parameters`: how many; `latency_ms`: milliseconds of one frame through the network, without decoding, on the
        model's device, the median of several.
    """
    assert model.height is not None and model.width is not None
    frame = torch.zeros(1, 1, model.detector.in_channels, model.height, model.width, device=model.device)
    seconds = []
    with torch.no_grad(), evaluating(model), trainer.precision_plugin.forward_context():
        for _ in range(WARM_UP + TRAINING_FRAMES):
            start = time.perf_counter()
            model(frame)
            if frame.is_cuda:
                torch.cuda.synchronize(frame.device)
            seconds.append(time.perf_counter() - start)
    model.detector.reset_all()
    return {
        "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
        "latency_ms": 1000 * statistics.median(seconds[WARM_UP:]),
    }


def measure_rate(config: Config, threads: int, use_gpu: bool) -> float:
    """Frames a second of a training step in this process, reading included; the second of two steps is timed.

    Args:
        config: checked settings.
        threads: threads of torch.
        use_gpu: take the GPU.
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
    with _threads(threads):
        for _ in range(2):
            start = time.perf_counter()
            batch = model.transfer_batch_to_device(next(iter(loader)), device, 0)
            with torch.autocast(device.type, kind, enabled=precision != "32-true"):
                losses = model.detector.compute_loss(
                    batch["inputs"], batch["labels"], batch["mask_keep_memory"], batch["frame_is_labeled"]
                )
            optimizer.zero_grad()
            (losses["cls_loss"] + losses["loc_loss"]).backward()
            optimizer.step()
            if use_gpu:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
    return len(batch["inputs"].flatten(0, 1)) / seconds


def measure_speed(exported: Path) -> dict[str, str]:
    """How fast an exported detector answers here, boxes included: what, by what it is called.

    Args:
        exported: folder with `model.ptjit` and `info_ssd_jit.json`.

    Raises:
        FileNotFoundError: one of the two is missing.
        ValueError: they do not belong together.
    """
    from detector.export.bundle import load_exported

    loaded, info, device = load_exported(exported)
    frame = torch.rand(1, 1, info["in_channels"], info["height"], info["width"], device=device)
    seconds = []
    with torch.inference_mode():
        for _ in range(WARM_UP + EXPORT_FRAMES):
            start = time.perf_counter()
            loaded.detect(frame, info["score_thresh"], info["nms_thresh"], info["max_boxes_per_input"])
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[WARM_UP:])
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.machine()}"
    return {
        "frame": f"{info['width']} x {info['height']}, one stream, boxes included",
        "median time": f"{1000 * median:.1f} ms, of {EXPORT_FRAMES} frames",
        "real-time factor": f"{info['delta_t'] / 1e6 / median:.1f} at {info['delta_t'] / 1000:g} ms a frame",
        "where": f"{where}, threads: {torch.get_num_threads()}, torch {torch.__version__}",
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
