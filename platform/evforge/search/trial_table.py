"""The trials of a search as a text table and as a table on a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evforge.display.live import time_text
from evforge.display.tables import metric_text, shorten, text_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["TrialRow", "result_text", "sample_text", "trial_screen", "trial_table"]

LONGEST = 20
"""Largest number of characters of a value of a sample."""

WIDE = 100
"""Least number of columns of a terminal that shows the durations of the trials."""

STYLES = {"running": "cyan", "finished": "green", "stopped early": "yellow", "failed": "red", "killed": "red"}


@dataclass(frozen=True)
class TrialRow:
    """A trial of a search as a row of a table.

    Args:
        name: name of the trial
        sample: searched settings by their full names, such as `model.feature_base`
        metrics: values at the best validation, by the name of the metric; None before the first validation
        score: the metric of the search, negated if a smaller metric is better; None before the first validation
        epoch: last validated epoch and number of epochs, such as "3/10"
        seconds: duration of the trial
        status: running, finished, stopped early, failed or killed
    """

    name: str
    sample: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    score: float | None
    epoch: str
    seconds: float
    status: str


def trial_table(rows: Sequence[TrialRow]) -> str:
    """Format the trials as a text table.

    The trial with the best metric is first and marked by "*". Trials without a metric are last.
    """
    ranked = _ranked(rows)
    settings, metrics = _columns(ranked)
    head = _head(settings, metrics)
    lines = [head, *(_cells(row, settings, metrics, row is _best(ranked)) for row in ranked)]
    numbers = range(1 + len(settings), len(head) - 1)
    return text_table(lines, numbers)


def trial_screen(rows: Sequence[TrialRow], summary: str, width: int, height: int) -> "RenderableType":
    """Return a table of the trials for a terminal.

    If there are more trials than lines, half of the rows are the best trials and the others are the newest trials. The
    last line counts the trials that are left out. A narrow terminal shows no durations.

    Args:
        rows: the trials in the order of their start.
        summary: text above the table.
        width: number of columns of the terminal.
        height: number of lines of the terminal.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text(summary)
    shown, hidden = _selected(rows, max(2, height - 8))  # lines of the summary, the header, the counts and the cursor
    settings, metrics = _columns(rows)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    # Rich makes columns narrower that may be wrapped. These are the settings, but their texts are cut off instead.
    table.add_column("trial", no_wrap=True)
    for key in settings:
        table.add_column(_cut(_leaf(key)))
    numbers = [*metrics, "epoch", *(["seconds"] if width >= WIDE else [])]
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for row in shown:
        is_best = row is _best(shown)
        cells = _cells(row, settings, metrics, is_best)[: 1 + len(settings) + len(numbers)]
        status = Text(row.status.removesuffix(" early"), STYLES[row.status])
        table.add_row(*map(_cut, cells), status, style="bold" if is_best else None)
    return Group(Text(summary), table, *([Text(_counts(hidden))] if hidden else []))


def sample_text(sample: Mapping[str, Any]) -> str:
    """Format the settings of a sample as one line, such as "lr 0.01, feature_base 8"."""
    return ", ".join(f"{_leaf(key)} {_value(value)}" for key, value in sample.items())


def result_text(row: TrialRow) -> str:
    """Format the result of a trial as one line, such as "trial-1 finished, epoch 2/2  val_mean_ap 0.2500  34 s"."""
    values = "  ".join(f"{name} {metric_text(value)}" for name, value in row.metrics.items())
    return f"{row.name} {row.status}, epoch {row.epoch}  {values}  {time_text(row.seconds)}"


def _ranked(rows: Sequence[TrialRow]) -> list[TrialRow]:
    return sorted(rows, key=lambda row: -float("inf") if row.score is None else row.score, reverse=True)


def _best(ranked: Sequence[TrialRow]) -> TrialRow | None:
    return ranked[0] if ranked and ranked[0].score is not None else None


def _selected(rows: Sequence[TrialRow], room: int) -> tuple[list[TrialRow], list[TrialRow]]:
    """Return the trials that are shown in `room` rows, the best one first, and the others."""
    ranked = _ranked(rows)
    if len(ranked) <= room:
        return ranked, []
    first = ranked[: room // 2]
    newest = [row for row in reversed(rows) if row not in first][: room - len(first)]
    shown = [*first, *newest]
    return _ranked(shown), [row for row in rows if row not in shown]


def _counts(hidden: Sequence[TrialRow]) -> str:
    counts = Counter(row.status for row in hidden)
    return f"and {len(hidden)} more: {', '.join(f'{count} {status}' for status, count in counts.items())}"


def _columns(rows: Sequence[TrialRow]) -> tuple[list[str], list[str]]:
    """Return the names of all settings and of all metrics in the order in which they appear."""
    settings, metrics = dict[str, None](), dict[str, None]()
    for row in rows:
        settings.update(dict.fromkeys(row.sample))
        metrics.update(dict.fromkeys(row.metrics))
    return list(settings), list(metrics)


def _cut(text: str) -> "Text":
    """Return a text that is cut off in a column that is too narrow, instead of wrapped."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def _head(settings: Sequence[str], metrics: Sequence[str]) -> list[str]:
    return ["trial", *map(_leaf, settings), *metrics, "epoch", "seconds", "status"]


def _cells(row: TrialRow, settings: Sequence[str], metrics: Sequence[str], is_best: bool) -> list[str]:
    return [
        f"{row.name} *" if is_best else row.name,
        *(_value(row.sample[key]) if key in row.sample else "-" for key in settings),
        *(metric_text(row.metrics.get(name)) for name in metrics),
        row.epoch,
        f"{row.seconds:.0f}",
        row.status,
    ]


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _value(value: Any) -> str:
    """Format a value of a sample as a short text. The pairs of an anchor list are shown as `ratio:scale`."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(":".join(map(_value, one)) if isinstance(one, Sequence) else _value(one) for one in value)
    return shorten(str(value), LONGEST)
