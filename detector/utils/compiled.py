"""Loops that are compiled to machine code if numba is installed; otherwise they run as plain Python, slowly."""

from collections.abc import Callable
from typing import TypeVar

__all__ = ["HAS_COMPILER", "compiled"]

Loop = TypeVar("Loop", bound=Callable)

try:
    from numba import njit
except ImportError:  # for example on an edge device
    njit = None  # type: ignore[assignment]

HAS_COMPILER = njit is not None


def compiled(loop: Loop) -> Loop:
    """Compile a function of arrays and numbers at its first call, and cache the compiled code on disk.

    Compiled code runs without the interpreter lock and without bounds checks, so callers must check the arguments.
    Indices that the function computes should be unsigned integers, because signed indices are tested for negative
    values. The disk cache does not notice changes of compiled functions in other modules. Functions that call each
    other must therefore be in the same module. Without numba, the results are the same.

    Args:
        loop: the function to compile.

    Returns:
        The compiled function, with the plain Python function as attribute `py_func`. Without numba, `loop` itself.
    """
    return loop if njit is None else njit(cache=True, nogil=True, error_model="numpy")(loop)  # type: ignore[return-value]
