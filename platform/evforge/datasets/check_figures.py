"""Figures of the findings of a dataset check: one figure per finding, one panel per part of its evidence."""

from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.data.check.evidence import Bars, Curves, Evidence, PixelMap
from detector.data.check.finding import Finding
from evforge.display.figures import COLOURS, make_panels, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["finding_figure", "save_findings"]

MAX_FIGURES = 20
MAX_DRAWN = 400
"""Largest numbers of figures of a check, and of boxes or points of a figure."""

BOX_COLOURS = (COLOURS[1], COLOURS[2], COLOURS[3])
"""Colours of the boxes and points: as stored, corrected, others."""


def save_findings(folder: Path, findings: Iterable[Finding]) -> list[Path]:
    """Draw the first 20 findings that have evidence, and write them as PNG files.

    Args:
        folder: folder to write to, created if missing.
        findings: the findings of a check.

    Returns:
        Paths of the written figures.
    """
    written: list[Path] = []
    counts: dict[str, int] = {}
    for finding in [finding for finding in findings if finding.evidence][:MAX_FIGURES]:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{finding.kind.replace(' ', '_')}-{counts[finding.kind]}-{_stem(finding.path)}.png"
        save_figure(folder / name, lambda finding=finding: finding_figure(finding))  # type: ignore[misc]
        if (folder / name).is_file():
            written.append(folder / name)
    return written


def finding_figure(finding: Finding) -> "Figure":
    """Draw the evidence of a finding, with the file, the fault and its remedy as title.

    Args:
        finding: a finding with evidence.
    """
    count = len(finding.evidence)
    texts = [f"{finding.path.name}: {finding.kind}", finding.found, finding.cause]
    title = "\n".join(line for text in texts for line in wrap(text, 120 if count > 1 else 80))
    figure, panels = make_panels(title, 1, count, (6.4 * count + (1.2 if count == 1 else 0), 5.6))
    for axes, evidence in zip(panels[0], finding.evidence, strict=True):
        _draw(axes, evidence)
    return figure


def _draw(axes: Any, evidence: Evidence) -> None:
    axes.set_title(evidence.title, size="medium")
    if isinstance(evidence, Curves):
        _draw_curves(axes, evidence)
    elif isinstance(evidence, PixelMap):
        _draw_map(axes, evidence)
    else:
        _draw_bars(axes, evidence)


def _draw_curves(axes: Any, curves: Curves) -> None:
    for (name, (x, y)), colour in zip(curves.lines.items(), (COLOURS[0], COLOURS[4], COLOURS[5]), strict=False):
        axes.plot(x, y, color=colour, lw=1.4, label=name, marker="." if len(x) < 30 else None)
    for (name, position), colour in zip(curves.marks.items(), BOX_COLOURS, strict=False):
        axes.axvline(position, color=colour, ls="--", lw=1.4, label=name)
    axes.set(xlabel=curves.xlabel, ylabel=curves.ylabel)
    axes.margins(x=0.02)
    axes.legend(frameon=False, fontsize="small", loc="upper right")
    low, high = axes.get_ylim()
    axes.set_ylim(min(0, low), high + 0.15 * (high - min(0, low)))  # room for the legend


def _draw_bars(axes: Any, bars: Bars) -> None:
    names = list(bars.values)
    colours = [BOX_COLOURS[1] if name in bars.marked else COLOURS[0] for name in names]
    drawn = axes.barh(names, list(bars.values.values()), color=colours)
    axes.bar_label(
        drawn, labels=[f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in bars.values.values()], padding=3
    )
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel(bars.xlabel)
    axes.grid(axis="y", visible=False)


def _draw_map(axes: Any, pixels: PixelMap) -> None:
    from matplotlib.patches import Rectangle

    height, width = pixels.sensor_size
    if pixels.counts is not None:
        # A square root, because few pixels have most events.
        shown = np.sqrt(np.minimum(pixels.counts, _high(pixels.counts)))
        axes.imshow(shown, extent=(0, width, height, 0), cmap="Greys", interpolation="nearest", vmin=0)
    # Of boxes in the same place, the solid ones are visible between the dashes.
    for (name, xywh), colour, dashes in zip(pixels.boxes.items(), BOX_COLOURS, ("-", "--", ":"), strict=False):
        for x, y, w, h in xywh[:MAX_DRAWN]:
            axes.add_patch(Rectangle((x, y), w, h, fill=False, ec=colour, ls=dashes, lw=1.8))
        axes.plot([], [], color=colour, ls=dashes, lw=2, label=name)
    for (name, points), colour in zip(pixels.points.items(), BOX_COLOURS, strict=False):
        x, y = points[:MAX_DRAWN].T + 0.5
        axes.plot(x, y, "o", mfc="none", mec=colour, mew=1.5, ms=10, label=f"{name} ({len(points):,})")
    axes.set(xlim=(0, width), ylim=(height, 0), xlabel="x (px)", ylabel="y (px)", aspect="equal")
    axes.grid(visible=False)
    if pixels.boxes or pixels.points:
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _high(counts: np.ndarray) -> float:
    active = counts[counts > 0]
    return float(np.percentile(active, 99)) if active.size else 1.0


def _stem(path: Path) -> str:
    return path.name.partition(".")[0].removesuffix("_bbox").removesuffix("_td")
