"""Selection of the precision in which a network trains fastest on this machine."""

import time
from functools import cache

import torch

from detector.utils.torch_compat import cpu_has_amx, cpu_has_avx512_bf16

__all__ = ["resolve_precision"]


def resolve_precision(name: str, use_gpu: bool = False) -> str:
    """Precision for the trainer: "auto" is bf16 if the hardware is faster in it, otherwise float32."""
    if name != "auto":
        return name
    if use_gpu:
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if _cpu_is_faster_in_bf16() else "32-true"


@cache
def _cpu_is_faster_in_bf16() -> bool:
    """Time a convolution: some processors with bf16 instructions are half as fast in bf16 as in float32."""
    if not cpu_has_avx512_bf16():
        return cpu_has_amx()
    seconds: dict[torch.dtype, list[float]] = {torch.bfloat16: [], torch.float32: []}
    with torch.inference_mode():
        for _ in range(5):
            for dtype, rounds in seconds.items():
                x = torch.ones(4, 64, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
                weight = torch.ones(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
                start = time.perf_counter()
                torch.nn.functional.conv2d(x, weight, padding=1)
                rounds.append(time.perf_counter() - start)
    return min(seconds[torch.bfloat16]) < min(seconds[torch.float32])
