import io

import numpy as np
from matplotlib.figure import Figure

from evforge.reports.figures import learning_curves_figure


def _draws(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


def test_learning_curves_leave_out_trials_without_points():
    figure = learning_curves_figure({"a": [(0, 0.1), (1, 0.2)], "stopped": [], "b": [(0, 0.3)]})
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.get_lines()] == ["a", "b"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [0, 1])
    _draws(figure)


def test_many_trials_are_told_apart():
    figure = learning_curves_figure({f"trial_{index}": [(0, 0.1), (1, 0.2)] for index in range(20)})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(looks) == 20
