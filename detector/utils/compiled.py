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
    """Compile a function over arrays and numbers at its first call; the result is cached on disk for later processes.

    It runs without the interpreter lock and without bounds checks: callers check the arguments. Computed indices should
    be unsigned, otherwise each access tests for a negative index. In plain Python the arithmetic is that of numpy, so
    mixed types behave alike. The cache on disk does not notice changes of compiled functions in other modules:
    functions that call each other belong in one module.

    Args:
        loop: the function; if it is compiled, `py_func` is the plain Python function.
    """
    return loop if njit is None else njit(cache=True, nogil=True, error_model="numpy")(loop)  # type: ignore[return-value]
