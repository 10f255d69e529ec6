from pathlib import Path

import numpy as np
import pytest

from detector.data.check.evidence import Bars, Curves, PixelMap
from detector.data.check.finding import Finding
from evforge.datasets import check_figures
from evforge.datasets.check_figures import finding_figure, save_findings

CURVES = Curves("score", "s", "score", {"boxes": (np.arange(5) / 10, np.array([1, 4, 9, np.nan, 2]))}, {"best": 0.2})
BARS = Bars("layouts", "score", {"as stored": 0.1, "mirrored": 0.9}, ("mirrored",))
PIXELS = PixelMap(
    "events", np.arange(12).reshape(3, 4), (6, 8), {"given": np.array([[1.0, 2, 3, 2]])}, {"hot": np.array([[5, 1]])}
)


def finding(kind="hot pixels", evidence=(), path="a.raw"):
    return Finding("warning", Path(path), kind, "12 pixels", "none", "mask them", evidence)


def test_every_kind_of_evidence_is_a_panel():
    figure = finding_figure(finding(evidence=(CURVES, PIXELS, BARS)))
    curves, pixels, bars = figure.axes
    assert figure.get_suptitle() == "a.raw: hot pixels\n12 pixels\nmask them"
    assert curves.get_lines()[0].get_xdata().tolist() == [0, 0.1, 0.2, 0.3, 0.4]
    assert curves.get_lines()[1].get_xdata() == [0.2, 0.2]
    assert pixels.images[0].get_extent() == [0, 8, 6, 0]
    (box,) = pixels.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((1, 2), 3, 2)
    assert (pixels.get_xlim(), pixels.get_ylim()) == ((0, 8), (6, 0))  # y grows downwards
    assert pixels.get_lines()[-1].get_xydata().tolist() == [[5.5, 1.5]]
    assert [patch.get_width() for patch in bars.patches] == [0.1, 0.9]
    assert bars.patches[0].get_facecolor() != bars.patches[1].get_facecolor()


def test_curves_leave_room_for_the_legend():
    lines = {"few": (np.arange(29), np.arange(29) * 10.0), "many": (np.arange(30), np.full(30, 5.0))}
    (axes,) = finding_figure(finding(evidence=(Curves("t", "s", "score", lines, {"best": 3}),))).axes
    few, many, mark = axes.get_lines()
    assert [line.get_label() for line in (few, many, mark)] == ["few", "many", "best"]
    assert (few.get_marker(), many.get_marker()) == (".", "None")
    assert few.get_color() != many.get_color() != mark.get_color()
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("t", "s", "score")
    # Values from 0 to 280 have margins of 14. The height of 308 grows by 15 %.
    assert axes.get_ylim() == pytest.approx((-14, 294 + 0.15 * 308))
    high = Curves("t", "s", "score", {"a": (np.arange(2), np.array([100.0, 200.0]))}, {})
    assert finding_figure(finding(evidence=(high,))).axes[0].get_ylim() == pytest.approx((0, 205 * 1.15))


def test_bars_have_their_numbers_and_the_first_is_at_the_top():
    bars = Bars("layouts", "score", {"a": 99.994, "b": 100, "c": 12345.6}, ("b",))
    (axes,) = finding_figure(finding(evidence=(bars,))).axes
    assert [text.get_text() for text in axes.texts] == ["99.99", "100", "12,346"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1] and axes.get_xlabel() == "score"
    first, marked, last = (patch.get_facecolor() for patch in axes.patches)
    assert first == last != marked


def test_a_map_shows_the_root_of_the_counts_up_to_their_99th_percentile():
    counts = np.zeros((2, 101))
    counts[0], counts[1, 0] = 4, 900  # 4 is the 99th percentile of the 102 active pixels
    (axes,) = finding_figure(finding(evidence=(PixelMap("events", counts, (2, 101)),))).axes
    shown = axes.images[0].get_array()
    assert (shown[0] == 2).all() and shown[1, 0] == pytest.approx(2) and shown[1, 1] == 0
    assert axes.get_legend() is None and axes.images[0].get_clim()[0] == 0


def test_one_panel_is_wider_than_each_of_several():
    widths = [finding_figure(finding(evidence=(BARS,) * count)).get_size_inches().tolist() for count in (1, 2)]
    assert widths == [pytest.approx([7.6, 5.6]), pytest.approx([12.8, 5.6])]


def test_a_map_without_events():
    figure = finding_figure(finding(evidence=(PixelMap("boxes", None, (6, 8), PIXELS.boxes),)))
    assert not figure.axes[0].images
    finding_figure(finding(evidence=(PixelMap("no events", np.zeros((3, 4)), (6, 8)),)))


def test_files_of_figures(tmp_path, monkeypatch):
    folder = tmp_path / "new"
    assert save_findings(folder, [finding()]) == []
    assert not folder.exists()
    found = [
        finding(),
        finding(evidence=(BARS,)),
        finding("flicker", (CURVES,)),
        finding(evidence=(BARS,), path="b_td.dat"),
    ]
    names = ["hot_pixels-1-a.png", "flicker-1-a.png", "hot_pixels-2-b.png"]
    assert [path.name for path in save_findings(folder, found)] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    monkeypatch.setattr(check_figures, "MAX_FIGURES", 1)
    assert len(save_findings(tmp_path / "few", found)) == 1


def test_a_figure_that_fails_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check_figures, "_draw_bars", lambda *_: 1 / 0)
    found = [finding(evidence=(BARS,)), finding("flicker", (CURVES,))]
    assert [path.name for path in save_findings(tmp_path, found)] == ["flicker-1-a.png"]
    assert "hot_pixels-1-a.png was not drawn: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 500])
def test_many_points_are_cut_short(count):
    points = np.stack([np.arange(count), np.arange(count)], axis=1)
    figure = finding_figure(finding(evidence=(PixelMap("hot", None, (600, 600), points={"hot": points}),)))
    (line,) = figure.axes[0].get_lines()
    assert line.get_xdata().size == min(count, 400)
    assert line.get_label() == f"hot ({count})"
