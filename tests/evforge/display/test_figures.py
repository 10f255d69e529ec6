import io
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from evforge.display.figures import FEW, make_figure, opacity, set_title, wilson_interval
from evforge.evaluation.report import pr_curve_figure


def test_figures_without_data_say_so():
    figure = pr_curve_figure({}, "t", {})
    assert [text.get_text() for text in figure.axes[0].texts] == ["no data"]
    _draws(figure)


def test_figures_need_no_pyplot():
    code = (
        "import sys; from evforge.evaluation.report import pr_curve_figure as f; f({}, 't', {});"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_wilson_interval():
    """Of 10 samples, 8 hits: 0.490 to 0.943 (Brown, Cai and DasGupta 2001, method of Wilson)."""
    assert wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_few_boxes_are_faded():
    assert opacity(FEW) == 1 > opacity(FEW - 1) > 0


def test_long_titles_are_wrapped():
    figure = make_figure((6.4, 4.8))
    set_title(figure, "Calibration", "run " + "long-name " * 20)
    lines = figure.get_suptitle().split("\n")
    assert lines[0] == "Calibration" and len(lines) > 2 and max(map(len, lines)) <= 77


def _draws(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
