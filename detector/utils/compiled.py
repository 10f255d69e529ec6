"""Loops compiled to machine code where numba is there; elsewhere the same functions run as plain Python, slowly."""

from collections.abc import Callable
from typing import TypeVar

__all__ = ["HAS_COMPILER", "compiled"]

Loop = TypeVar("Loop", bound=Callable)

try:
    from numba import njit
except ImportError:  # an edge box without it
    njit = None  # type: ignore[assignment]

HAS_COMPILER = njit is not None


def compiled(loop: Loop) -> Loop:
    """Compile a function over arrays and numbers at its first call; the result is kept on disk for later processes.

    It runs without the interpreter's lock and without bounds checks: callers check what they pass. Indices that are
    computed should be unsigned, or each access costs a test for a negative one. In plain Python the arithmetic is
    numpy's, so mixed types behave alike. What is kept on disk becomes stale when a compiled function of another module
    that it calls changes: let functions that call each other stand in one module.

    Args:
        loop: the function; its code as plain Python stays reachable as `py_func` where it is compiled.
    """
    return loop if njit is None else njit(cache=True, nogil=True, error_model="numpy")(loop)  # type: ignore[return-value]
