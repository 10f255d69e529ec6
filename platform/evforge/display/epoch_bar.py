"""Progress bar of a training in the driver. The first worker of the training writes the progress to a file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detector.utils.atomic_write import atomic_write
from evforge.display.live import live_view, time_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["EpochProgress", "epoch_bar"]


@dataclass(frozen=True)
class EpochProgress:
    """Progress within an epoch.

    Args:
        epoch: number of the epoch, from 1
        epochs: number of epochs of the training
        step: "training" or "validation"
        done: number of batches of the step that are done
        batches: number of batches of the step
        text: further values, such as the loss
        left_s: estimate of the time in seconds until the end of the training
    """

    epoch: int
    epochs: int
    step: str
    done: int
    batches: int
    text: str
    left_s: float

    def write(self, path: Path) -> None:
        """Write the progress to a file that `epoch_bar` reads. An error of the file system is ignored."""
        with suppress(OSError), atomic_write(path) as part:
            part.write_text(json.dumps(asdict(self)))

    def render(self) -> "RenderableType":
        """Return the bar of the step with its values as one line for a terminal."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        line = Table.grid(padding=(0, 1))
        for _ in range(4):
            line.add_column(no_wrap=True)
        line.add_row(
            f"epoch {self.epoch}/{self.epochs}",
            f"{self.step} {self.done}/{self.batches}",
            ProgressBar(self.batches, self.done, width=20),
            f"{self.text}  {time_text(self.left_s)} left",
        )
        return line


@contextmanager
def epoch_bar(path: Path) -> Iterator[bool]:
    """Context manager that draws the bar of the running epoch on a terminal, and removes the file after the block.

    Args:
        path: file that the first worker writes by `EpochProgress.write`.

    Yields:
        Whether the bar is drawn. False if the output is a file or a pipe.
    """

    def render(console: "Console") -> "RenderableType":
        if not path.is_file():
            return "the training workers are starting"
        return EpochProgress(**json.loads(path.read_text())).render()

    path.unlink(missing_ok=True)
    try:
        with live_view(render) as shown:
            yield shown
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
