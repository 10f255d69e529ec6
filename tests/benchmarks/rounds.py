"""What the benchmarks share: interleaved rounds, rows of a table, and how they are printed."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

__all__ = ["Row", "arguments", "medians", "memory_growth", "parse", "print_rows", "table"]


@dataclass(frozen=True)
class Row:
    """A measured path.

    Args:
        path: what was measured, with its size
        peer: what it is compared with
        ours: our figure, with its unit
        theirs: the peer's figure, with its unit
        ratio: how many times as good ours is
        asked: the least ratio asked for; None where nothing is asked
        of_limit: share of the measured limit that is reached; None where there is none
        at_most: whether `asked` is the highest allowed ratio instead
    """

    path: str
    peer: str
    ours: str
    theirs: str
    ratio: float
    asked: float | None = None
    of_limit: float | None = None
    at_most: bool = False

    @property
    def missed(self) -> bool:
        """Whether less was reached than is asked for."""
        return self.asked is not None and (self.ratio > self.asked if self.at_most else self.ratio < self.asked)


def arguments(doc: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of each form ({rounds})")
    parser.add_argument("--small", action="store_true", help="tiny sizes and one round: does it run?")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the options and set the threads."""
    args = parser.parse_args()
    args.rounds = 1 if args.small else args.rounds
    torch.set_num_threads(args.threads)
    return args


def medians(forms: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of forms that take turns, in an order that rotates; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    names = list(forms)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            result = forms[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
            del result
    return {name: statistics.median(values) for name, values in seconds.items()}


def memory_growth(form: Callable[[], object]) -> int | None:
    """Bytes by which the peak of this process's memory exceeds what it had before the form ran; None off Linux."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def read(field: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) << 10

    try:
        form()
        clear.write_text("5")  # the peak starts from here
        before = read("VmRSS")
        form()
        return max(read("VmHWM") - before, 1)
    except (OSError, StopIteration):
        return None


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| path | against | ours | theirs | ratio | asked | of the limit |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        asked = "" if row.asked is None else f"{'at most ' if row.at_most else ''}{row.asked:g}x"
        limit = "" if row.of_limit is None else f"{row.of_limit:.2f}"
        ratio = f"{row.ratio:.2f}x{' (missed)' if row.missed else ''}"
        lines.append(f"| {row.path} | {row.peer} | {row.ours} | {row.theirs} | {ratio} | {asked} | {limit} |")
    return "\n".join(lines)


def print_rows(benchmark: str, rows: Sequence[Row], **facts: object) -> None:
    """Print the table and, as the last line, everything as JSON."""
    print(table(rows))
    print(json.dumps({"benchmark": benchmark, **facts, "rows": [asdict(row) for row in rows]}))
