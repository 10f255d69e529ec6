"""Output that is redrawn in place on a terminal. Files and pipes get plain lines only."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["announce", "is_live", "live_view", "time_text"]

REFRESHES_PER_S = 2.0


def announce(text: str) -> None:
    """Print a line about the progress of a command. It is not printed with `--quiet`."""
    if "EVFORGE_QUIET" not in os.environ:
        print(text, flush=True)


def is_live() -> bool:
    """Return whether the output is a terminal on which text can be redrawn, and `--quiet` is not given."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and "EVFORGE_QUIET" not in os.environ


def time_text(seconds: float) -> str:
    """Format a duration, such as "45 s", "12 min" or "3 h 5 min"."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def live_view(render: Callable[["Console"], "RenderableType"]) -> Iterator[bool]:
    """Context manager that draws the result of `render` at the bottom of the terminal, and removes it after the block.

    Lines that are printed in the block appear above. Errors of the drawing are not raised. After an error in `render`,
    the last result remains.

    Args:
        render: function that gets the console and returns what to draw. Another thread calls it.

    Yields:
        Whether the result is drawn. False if `is_live` is false.
    """
    if not is_live():
        yield False
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    drawn: list[RenderableType] = [""]

    def current() -> "RenderableType":
        with suppress(Exception):
            drawn[0] = render(console)
        return drawn[0]

    live = Live(get_renderable=current, console=console, refresh_per_second=REFRESHES_PER_S, transient=True)
    with suppress(Exception):
        live.start()
    try:
        yield True
    finally:
        with suppress(Exception):
            live.stop()
