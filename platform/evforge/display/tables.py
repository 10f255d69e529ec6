"""Formatting of tables, metrics, ranges and names as text."""

from collections.abc import Collection, Sequence

__all__ = ["metric_text", "range_text", "shorten", "text_table"]


def metric_text(value: float | None, digits: int = 4) -> str:
    """Format a metric with a fixed number of digits after the point, or return "-" if the metric is None."""
    return "-" if value is None else f"{value:.{digits}f}"


def range_text(start: float | None, stop: float | None) -> str:
    """Format the range [start, stop), such as "below 16", "16 to 32" or "from 96".

    Args:
        start: lower limit; None if there is no lower limit.
        stop: upper limit; None if there is no upper limit. At least one of the two limits is a number.
    """
    if start is None:
        return f"below {stop:g}"
    return f"from {start:g}" if stop is None else f"{start:g} to {stop:g}"


def shorten(name: str, length: int) -> str:
    """Shorten a name to at most `length` characters. In a longer name, "…" replaces the middle."""
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"


def text_table(lines: Sequence[Sequence[str]], numbers: Collection[int]) -> str:
    """Format a table as text with aligned columns.

    Args:
        lines: the header, then the rows, all with the same number of cells.
        numbers: indices of the columns to align to the right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([text[0], rule, *text[1:]])
