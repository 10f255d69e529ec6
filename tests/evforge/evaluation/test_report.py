import io

import numpy as np
from matplotlib.figure import Figure

from evforge.evaluation.report import pr_curve_figure


def _draws(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


def test_pr_curve_draws_a_line_a_class():
    recall = np.linspace(0, 1, 101)
    step = np.where(recall <= 0.5, 1.0, 0.0)  # 51 of 101 points at 1: AP 0.505
    figure = pr_curve_figure({"car": (recall, step), "pedestrian": (recall, 0 * recall)}, "test, IoU 0.5")
    (axes,) = figure.axes
    assert axes.get_title() == "test, IoU 0.5"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["car (AP 0.505)", "pedestrian (AP 0.000)"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), step)
    _draws(figure)
