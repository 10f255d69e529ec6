"""Selection of the precision in which a network trains fastest on this machine."""

import time
from functools import cache

import torch

from detector.utils.torch_compat import cpu_has_amx, cpu_has_avx512_bf16

__all__ = ["resolve_precision"]


def resolve_precision(name: str, use_gpu: bool = False) -> str:
    """Return the Lightning precision for a setting.

    Args:
        name: a Lightning precision, which is returned unchanged, or "auto". On a GPU, "auto" selects bf16 if the GPU
            supports it, otherwise float16. On a CPU, it selects bf16 if bf16 is faster, otherwise float32.
        use_gpu: whether "auto" selects a precision for a GPU; if False, for the CPU.
    """
    if name != "auto":
        return name
    if use_gpu:
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if _cpu_is_faster_in_bf16() else "32-true"


@cache
def _cpu_is_faster_in_bf16() -> bool:
    """Return whether the CPU convolves faster in bf16 than in float32.

    If the processor has AVX-512 instructions for bf16, both are timed, because some of these processors are half as
    fast in bf16 as in float32. Other processors are faster in bf16 only if they have AMX tiles.
    """
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
