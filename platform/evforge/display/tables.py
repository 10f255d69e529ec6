"""Text tables."""

from collections.abc import Collection, Sequence

__all__ = ["figure_text", "text_table"]


def figure_text(value: float | None, digits: int = 4) -> str:
    """A figure with this many digits after the point; "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def text_table(lines: Sequence[Sequence[str]], numbers: Collection[int]) -> str:
    """Aligned text.

    Args:
        lines: the head, then the rows, all equally long.
        numbers: columns that stand to the right.
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
