"""HTML of a page in a single file: text, tables, commands, embedded images and interactive figures.

The page loads nothing from the network. Without JavaScript, everything except the interactive figures is shown.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["command", "details", "image", "images", "link", "page", "paragraph", "plot", "plots", "section", "table"]

STYLE, SCRIPT = (Path(__file__).with_name(name).read_text() for name in ("page.css", "page.js"))
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
"""Content security policy, by which browsers refuse all requests to the network."""
NO_SCRIPT = "<noscript>This figure needs JavaScript. The tables contain its values.</noscript>"


def page(title: str, sections: Sequence[str]) -> str:
    """Return the HTML of a complete page. Plotly's program is embedded once if a section contains a figure.

    Args:
        title: heading of the page.
        sections: HTML of the sections, from `section`.
    """
    body = "\n".join(sections)
    scripts = [SCRIPT]
    if 'class="plot"' in body:
        from plotly.offline import get_plotlyjs

        scripts.insert(0, get_plotlyjs())
    programs = "\n".join(f"<script>{script}</script>" for script in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"{body}\n{programs}\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return the HTML of a section: a heading, followed by `parts`, which are HTML."""
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def paragraph(text: str, kind: str = "note") -> str:
    """Return the HTML of a paragraph.

    Args:
        text: plain text.
        kind: "note" for small text, "summary" for large text.
    """
    return f'<p class="{kind}">{escape(text)}</p>'


def link(text: str, address: str) -> str:
    """Return the HTML of a paragraph that is a link to an address (http or https)."""
    return f'<p><a href="{escape(address)}">{escape(text)}</a></p>'


def details(title: str, *parts: str) -> str:
    """Return the HTML of a part that is closed until the user clicks on its title."""
    return "\n".join([f"<details><summary>{escape(title)}</summary>", *parts, "</details>"])


def command(text: str) -> str:
    """Return the HTML of a shell command with a button that copies it."""
    return f'<pre class="command"><code>{escape(text)}</code></pre>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), *, sortable: bool = False
) -> str:
    """Return the HTML of a table.

    Args:
        head: names of the columns.
        rows: rows with one plain text per column.
        numbers: indices of the columns to align to the right. If there are any, no row of the table is broken.
        sortable: whether a click on the name of a column sorts the rows.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if column in numbers else "" for column in range(len(cells))]
        texts = [escape(cell).replace(".", ".<wbr/>") if tag == "th" else escape(cell) for cell in cells]
        parts = (f"<{tag}{kind}>{text}</{tag}>" for text, kind in zip(texts, kinds, strict=True))
        return f"<tr>{''.join(parts)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    kinds = [name for name, given in (("compact", numbers), ("sortable", sortable)) if given]
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    top = f"<thead>{line(head, 'th')}</thead>\n" if any(head) else ""
    return f'<div class="wide"><table{kind}>\n{top}<tbody>\n{body}\n</tbody>\n</table></div>'


def image(data: bytes, caption: str) -> str:
    """Return the HTML of a PNG image, embedded in the page, with a caption."""
    text, code = escape(caption), base64.b64encode(data).decode()
    return f'<figure><img alt="{text}" src="data:image/png;base64,{code}"/><figcaption>{text}</figcaption></figure>'


def images(found: Sequence[str]) -> str:
    """Return the HTML of images side by side.

    Args:
        found: HTML of each image, from `image`.
    """
    return '<div class="images">' + "\n".join(found) + "</div>"


def plot(figure: "Figure") -> str:
    """Return the HTML of an interactive figure. It scrolls if the page is narrower than `meta.least_width` pixels."""
    # The JSON of plotly contains no "<", so it cannot end the script.
    content, least = figure.to_json(), (figure.layout.meta or {}).get("least_width", 0)
    return (
        f'<div class="wide"><div class="plot" style="min-height: {figure.layout.height}px; min-width: {least}px">'
        f'{NO_SCRIPT}<script type="application/json">{content}</script></div></div>'
    )


def plots(figures: Mapping[str, str]) -> str:
    """Return the HTML of a grid of figures.

    Args:
        figures: HTML of each figure, from `plot`, by its title.
    """
    parts = (f"<div><h3>{escape(title)}</h3>\n{figure}</div>" for title, figure in figures.items())
    return '<div class="grid">' + "\n".join(parts) + "</div>"
