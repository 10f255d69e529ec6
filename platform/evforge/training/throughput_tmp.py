"""How fast a training would be, measured on a step of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from detector.config import Config

__all__ = ["measure_rate"]


def measure_rate(config: Config, threads: int, use_gpu: bool) -> float:
    """Frames a second of a training step in this process, reading included; the second of two steps is timed.

    Args:
        config: checked settings.
        threads: threads of torch.
        use_gpu: take the GPU.
    """
    from detector.data_factory import psee_data
    from detector.lightning_model import LightningDetectionModel, resolve_precision

    device = torch.device("cuda" if use_gpu else "cpu")
    precision = resolve_precision(config.train.precision, use_gpu)
    kind = torch.float16 if precision == "16-mixed" else torch.bfloat16
    model = LightningDetectionModel(config.to_hparams()).to(device)
    optimizer = torch.optim.Adam(model.parameters())
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


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
