"""What a detector costs, beside its mAP: a search may weigh the one against the other."""

import statistics
import time

import pytorch_lightning as pl
import torch

from detector.lightning_model import LightningDetectionModel

__all__ = ["model_costs"]

WARM_UP, FRAMES = 3, 9


def model_costs(trainer: pl.Trainer, model: LightningDetectionModel) -> dict[str, float]:
    """Size and speed of a detector; its recurrent state is cleared.

    Args:
        trainer: gives the precision.
        model: one that has seen a batch, whose size a frame has.

    Returns:
        `parameters`: how many; `latency_ms`: milliseconds of one frame through the network, without decoding, on the
        model's device, the median of several.
    """
    assert model.height is not None and model.width is not None
    frame = torch.zeros(1, 1, model.config.in_channels, model.height, model.width, device=model.device)
    was_training, seconds = model.training, []
    model.eval()
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for _ in range(WARM_UP + FRAMES):
            start = time.perf_counter()
            model(frame)
            if frame.is_cuda:
                torch.cuda.synchronize(frame.device)
            seconds.append(time.perf_counter() - start)
    model.train(was_training)
    model.detector.reset_all()
    return {
        "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
        "latency_ms": 1000 * statistics.median(seconds[WARM_UP:]),
    }
