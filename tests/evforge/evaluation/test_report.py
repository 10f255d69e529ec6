import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from detector.evaluation.analysis.matches import Calibration, Confusion, OperatingPoint
from detector.evaluation.analysis.slices import Details
from detector.evaluation.analysis.state_leak import StateLeak
from detector.evaluation.analysis.tracks import Reaction
from evforge.evaluation.report import details_text, pr_curve_figure


def _draws(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("leak", "text"),
    [
        (StateLeak(2, 10, 0, None, None, None), "impossible, no detections (first"),
        (StateLeak(2, 10, 4, 1.0, None, False), "FAILED: 100.000% of 4 detections changed (first"),
        (
            StateLeak(2, 10, 4000, 0.0005, 0.004, True),
            "passed: 0.050% of 4000 detections changed, largest score change 0.004 (first",
        ),
    ],
)
def test_the_state_leak_check_states_what_it_measured(leak, text):
    details = Details(
        OperatingPoint(None, None, None, None),
        {},
        Confusion(["car", "(background)"], [[0, 0], [0, 0]]),
        Calibration(0.05, None, [0] * 10, [None] * 10, [None] * 10),
        Reaction(0, None, None, None),
    )
    assert f"state leak check {text} 10 frames of 2 recordings" in details_text(details, leak)


def test_pr_curve_draws_a_line_a_class():
    recall = np.linspace(0, 1, 101)
    step = np.where(recall <= 0.5, 1.0, 0.0)  # 51 of 101 points at 1: AP 0.505
    figure = pr_curve_figure({"car": (recall, step), "pedestrian": (recall, 0 * recall)}, "test, IoU 0.5")
    (axes,) = figure.axes
    assert axes.get_title() == "test, IoU 0.5"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["car (AP 0.505)", "pedestrian (AP 0.000)"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), step)
    _draws(figure)
