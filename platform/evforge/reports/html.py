"""HTML of a page in a single file: text, tables and embedded images."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

__all__ = ["image", "page", "paragraph", "section", "table"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: top }
td.number, th.number { text-align: right }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto } figcaption, p.note { color: #555; font-size: .9rem }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """Return the HTML of a complete page.

    Args:
        title: heading of the page.
        sections: HTML of the sections, from `section`.
    """
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n" + "\n".join(sections) + "\n</body>\n"
        "</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return the HTML of a section: a heading, followed by `parts`, which are HTML."""
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def paragraph(text: str) -> str:
    """Return the HTML of a paragraph in small text."""
    return f'<p class="note">{escape(text)}</p>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return the HTML of a table.

    Args:
        head: names of the columns.
        rows: rows with one plain text per column.
        numbers: indices of the columns to align to the right.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if column in numbers else "" for column in range(len(cells))]
        parts = (f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(parts)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f"<table>\n<thead>{line(head, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def image(path: Path, caption: str) -> str:
    """Return the HTML of a PNG file, embedded in the page, with a caption."""
    data = base64.b64encode(path.read_bytes()).decode()
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"/><figcaption>{text}</figcaption></figure>'
