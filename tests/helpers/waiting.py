"""Tests wait for conditions. The limit is reached only if something is broken, however slow the machine is."""

import time

__all__ = ["wait_for"]


def wait_for(condition, timeout_s=300.0, pause_s=0.05):
    """Call a function until its result is true, and return this result."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"nothing happened within {timeout_s:g} s"
        time.sleep(pause_s)
    return found
