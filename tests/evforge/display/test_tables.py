import io
import subprocess
import sys

import numpy as np
from matplotlib.figure import Figure

from evforge.report import TrialRow, learning_curves_figure, pr_curve_figure, trial_table


def test_table_is_aligned_and_ranked():
    rows = [
        TrialRow("trial_1", "PSEE_ANCHORS", 0.5, 0.3, 16, 0.25, 0.625, 81.4, "FINISHED"),
        TrialRow("trial_2", "COCO_ANCHORS", 0.45, 0.4, 8, None, None, None, "FAILED"),
        TrialRow("trial_3", "a2", 0.6, 0.3, 24, 0.5, 0.75, 100.0, "FINISHED"),
    ]
    assert trial_table(rows) == (
        "trial    anchors       fg/bg IoU  width    mAP  mAP50  seconds  status\n"
        "-------  ------------  ---------  -----  -----  -----  -------  --------\n"
        "trial_3  a2            0.6/0.3       24  0.500  0.750      100  FINISHED\n"
        "trial_1  PSEE_ANCHORS  0.5/0.3       16  0.250  0.625       81  FINISHED\n"
        "trial_2  COCO_ANCHORS  0.45/0.4       8      -      -        -  FAILED"
    )


def test_trial_that_measured_nothing_stands_below_one_that_measured_zero():
    none = TrialRow("none", "a", 0.5, 0.3, 8, None, None, None, "FAILED")
    zero = TrialRow("zero", "a", 0.5, 0.3, 8, 0.0, 0.0, 1.0, "FINISHED")
    assert [line.split()[0] for line in trial_table([none, zero]).splitlines()[2:]] == ["zero", "none"]


def test_pr_curve_draws_a_line_a_class():
    recall = np.linspace(0, 1, 101)
    step = np.where(recall <= 0.5, 1.0, 0.0)  # 51 of 101 points at 1: AP 0.505
    figure = pr_curve_figure({"car": (recall, step), "pedestrian": (recall, 0 * recall)}, "test, IoU 0.5")
    (axes,) = figure.axes
    assert axes.get_title() == "test, IoU 0.5"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["car (AP 0.505)", "pedestrian (AP 0.000)"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), step)
    _draws(figure)


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


def test_figures_without_data_say_so():
    for figure in (pr_curve_figure({}, "t"), learning_curves_figure({})):
        assert [text.get_text() for text in figure.axes[0].texts] == ["no data"]
        _draws(figure)


def test_figures_need_no_pyplot():
    code = (
        "import sys; from evforge.report import learning_curves_figure as f; f({'a': [(0, 1.0)]});"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _draws(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
