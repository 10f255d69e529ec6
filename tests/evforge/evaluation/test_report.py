import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from detector.evaluation.analysis.matches import Calibration, Confusion, OperatingPoint, ThresholdCurve
from detector.evaluation.analysis.slices import Details, Slice
from detector.evaluation.analysis.state_leak import StateLeak
from detector.evaluation.analysis.tracks import Reaction
from evforge.display.figures import COLOURS
from evforge.display.intervals import share_interval
from evforge.evaluation.report import (
    calibration_figure,
    confusion_figure,
    details_text,
    interval_text,
    pr_curve_figure,
    protocol_text,
    slices_figure,
    thresholds_figure,
)

SHORT = ["articulated…orthern line"]
"""The name of the longest class in figures."""


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


def test_the_protocol_and_an_interval_as_text():
    protocol = {"skip_us": 250_000, "min_box_diag": 60, "min_box_side": 20, "score_thresh": 0.05, "nms_thresh": 0.5}
    text = protocol_text({**protocol, "empty_frames": "ignore"}, "val")
    assert text.startswith(
        "protocol: COCO AP 0.50:0.95, labelled frames of val; first 0.25 s skipped; boxes under 60 px diagonal or 20 "
        "px side dropped; frames without a box are ignored; score floor 0.05; detections answer the labels of their "
        "frame; NMS at IoU 0.5; by "
    )
    assert (interval_text((0.41, 0.4567)), interval_text(None)) == ("  (0.410 to 0.457)", "")


def test_the_details_have_a_line_per_measurement():
    text = details_text(make_details(), StateLeak(2, 10, 0, None, None, None))
    assert "best F1 0.700 at score 0.400: precision 0.800, recall 0.620 (IoU 0.5" in text
    assert "calibration error (ECE) 0.100 over 95 detections with scores from 0.05 (" in text
    rows = [line.split()[-4:] for line in text.splitlines() if line.startswith("size")]
    assert rows == [["8", "0.100", "0.200", "0.500"], ["400", "0.500", "0.800", "0.640"]]
    some = [Slice(None, 16, 0, None, None, None), Slice(16, None, 1, 0.5, 0.8, 1.0)]
    lines = details_text(make_details(slices={"size": some}), StateLeak(2, 10, 0, None, None, None)).splitlines()
    (row,) = (line for line in lines if line.startswith("size"))
    head = next(line for line in lines if line.startswith("slice"))
    assert row[: head.index("boxes") + 5].endswith("    1") and row.endswith("1.000"), "numbers are on the right"


def test_pr_curve_draws_one_line_per_class():
    recall = np.linspace(0, 1, 101)
    step = np.where(recall <= 0.5, 1.0, 0.0)  # 51 of 101 points at 1: AP 0.505
    curves = {"car": (recall, step), "pedestrian " * 9: (recall, 0 * recall)}
    figure = pr_curve_figure(curves, "run a, split test", {"car": 20, "pedestrian " * 9: 19})
    (axes,) = figure.axes
    assert figure.get_suptitle() == "Precision and recall at IoU 0.5\nrun a, split test"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[0] == "car: AP50 0.505, 20 labels"
    assert "…" in texts[1] and texts[1].endswith(": AP50 0.000, 19 labels") and len(texts[1]) < 50
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), step)
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), recall)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (0, 1.01))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")
    assert not axes.get_lines()[0].get_clip_on()
    # 6.4 inches have one column of 49 characters (5.01 inches); each line of the legend is 0.2 inches high.
    assert figure.get_size_inches().tolist() == pytest.approx([6.4, 5.6])
    assert figure.legends[0]._ncols == 1
    assert axes.get_lines()[0].get_alpha() == 1 > axes.get_lines()[1].get_alpha(), "19 labels are few"
    _draws(figure)
    assert axes.get_window_extent().y0 > figure.legends[0].get_window_extent().y1, "the legend covers no line"


def curve(labels, *rows):
    """Rows (score, F1, precision, recall), of which the first is the best."""
    best, columns = OperatingPoint(*rows[0]), np.array(sorted(rows, reverse=True)).T
    return ThresholdCurve(labels, best, *columns)


def make_details(**parts):
    """Slices of 8 and 400 boxes, a confusion of two classes, and calibration bins of 5 and 90 detections."""
    empty = [None] * 8
    thresholds = {
        "(all classes)": curve(408, (0.4, 0.7, 0.8, 0.62), (0.9, 0.2, 1.0, 0.1), (0.1, 0.3, 0.2, 0.9)),
        "car": curve(400, (0.5, 0.75, 0.9, 0.64), (0.2, 0.4, 0.3, 0.8)),
        "articulated bus of the northern line": curve(8, (0.3, 0.5, 0.5, 0.5)),
        "tram": ThresholdCurve(0, OperatingPoint(*empty[:4]), *np.zeros((4, 0))),
    }
    values = {
        "operating_point": thresholds["(all classes)"].best,
        "slices": {"size": [Slice(None, 16, 8, 0.1, 0.2, 0.5), Slice(16, None, 400, 0.5, 0.8, 0.64)]},
        "confusion": Confusion(["car", "articulated bus of the northern line", "(background)"], [[9, 0, 1]] * 3),
        "calibration": Calibration(0.05, 0.1, [0] * 8 + [5, 90], [*empty, 0.85, 0.93], [*empty, 0.2, 1.0]),
        "reaction": Reaction(0, None, None, None),
        "thresholds": thresholds,
    }
    return Details(**{**values, **parts})


def test_thresholds_figure_marks_the_best():
    figure = thresholds_figure(make_details(), "run a, split test")
    assert [axes.get_title() for axes in figure.axes] == ["F1", "precision", "recall"]
    assert "run a, split test\nbest threshold of all classes together 0.400: F1 0.700" in figure.get_suptitle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "(all classes): best F1 0.700 at 0.400, 408 labels",
        "car: best F1 0.750 at 0.500, 400 labels",
        "articulated…orthern line: best F1 0.500 at 0.300, 8 labels",
    ]
    for axes, height in zip(figure.axes, (0.7, 0.8, 0.62), strict=True):
        line, marked, *others, vertical = axes.get_lines()
        assert (line.get_color(), line.get_linewidth(), line.get_drawstyle()) == ("black", 2.5, "steps-pre")
        assert [others[0].get_color(), others[1].get_color(), others[2].get_color()] == [COLOURS[k] for k in (0, 0, 1)]
        assert (others[1].get_marker(), others[1].get_clip_on()) == ("o", False)
        assert (vertical.get_linewidth(), vertical.get_zorder(), vertical.get_linestyle()) == (1.5, 0, ":")
        assert (axes.get_xlim(), axes.get_ylim(), axes.get_xlabel()) == ((0, 1), (0, 1.02), "score threshold")
        assert line.get_xdata().tolist() == [0.1, 0.4, 0.9], "increasing thresholds"
        assert (marked.get_xdata(), marked.get_ydata()) == ([0.4], [height])
        assert list(vertical.get_xdata()) == [0.4, 0.4]
        assert [other.get_alpha() for other in others] == [1, 1, 0.35, 0.35], "8 labels are few"
    assert "F1 0.700, precision 0.800, recall 0.620 (IoU 0.5" in figure.get_suptitle()
    assert figure.axes[0].get_lines()[0].get_ydata().tolist() == [0.3, 0.7, 0.2]
    # 12.8 inches have two columns of 53 characters (5.37 inches each), so that three texts need two lines.
    assert figure.get_size_inches().tolist() == pytest.approx([12.8, 5.2]) and figure.legends[0]._ncols == 2
    assert figure.legends[0].get_title().get_text().startswith("points: best F1 of each line")
    _draws(figure)
    empty = thresholds_figure(make_details(thresholds={}, operating_point=OperatingPoint(None, None, None, None)), "t")
    assert [text.get_text() for text in empty.axes[0].texts] == ["no data"] and not empty.legends
    assert empty.axes[0].texts[0].get_position() == (0.5, 0.5)
    assert empty.get_size_inches().tolist() == pytest.approx([12.8, 4.8])
    _draws(empty)


def test_a_single_class_is_drawn_once():
    line = curve(30, (0.4, 0.7, 0.8, 0.62))
    details = make_details(thresholds={"(all classes)": line, "car": line})
    figure = thresholds_figure(details, "t")
    assert figure.axes[0].get_lines()[0].get_color() == COLOURS[0]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["car: best F1 0.700 at 0.400, 30 labels"]
    leak = StateLeak(2, 10, 0, None, None, None)
    assert "best F1 by class" not in details_text(details, leak)
    lines = details_text(make_details(), leak).splitlines()
    assert "car                                      400  0.500  0.750      0.900   0.640" in lines
    assert "tram                                       0      -      -          -       -" in lines


def test_slices_show_intervals_of_recall_and_few_boxes_are_faded():
    figure = slices_figure(make_details(), "run a, split test")
    axes = figure.axes[0]
    assert [bar.get_alpha() for bar in axes.patches] == [0.35, 1] * 3
    assert [bar.get_height() for bar in axes.patches] == [0.1, 0.5, 0.2, 0.8, 0.5, 0.64]
    assert [bar.get_center()[0] for bar in axes.patches] == pytest.approx([-0.27, 0.73, 0, 1, 0.27, 1.27])
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.25] * 6)
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[0.27] * 2, [1.27] * 2]
    assert (axes.get_ylim(), axes.get_title()) == ((0, 1.02), "box size, square root of the area (px)")
    assert [panel.axison for panel in figure.axes] == [True] + [False] * 5
    assert [bool(panel.get_ylabel()) for panel in figure.axes] == [True, False, False] * 2
    few, many = (line.get_ydata() for line in axes.get_lines())
    assert few == pytest.approx(share_interval(0.5, 8)) and many == pytest.approx(share_interval(0.64, 400))
    assert figure.get_suptitle() == "AP and recall by properties of boxes, run a, split test"
    assert [text.get_text() for text in figure.legends[0].get_texts()][2] == (
        "recall at score 0.400 (best F1), with 95 % Wilson interval over boxes"
    )
    assert [patch.get_alpha() for patch in figure.legends[0].get_patches()] == [None] * 3, "the legend is not faded"
    _draws(figure)
    ticks = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert ticks[0].x1 < ticks[1].x0 and ticks[0].y0 > figure.legends[0].get_window_extent().y1


def test_confusion_shows_counts_and_shares_with_shortened_names():
    figure = confusion_figure(make_details(), "run a, split test")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts][:3] == ["9\n90%", "0\n0%", "1\n10%"]
    assert len(axes.texts) == 8, "background detected as background has no count"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["car", *SHORT, "nothing (missed)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["car", *SHORT, "nothing\n(false alarm)"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("detected as", "labelled as")
    assert figure.get_size_inches().tolist() == pytest.approx([6.25, 5.45])
    assert figure.axes[1].get_ylabel() == "share of the row"
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [0, 1, 2]
    assert axes.get_xticklabels()[0].get_rotation() == 45
    assert figure.get_suptitle().splitlines()[0] == "Confusion matrix"
    assert "IoU 0.5, score from 0.400" in figure.get_suptitle()
    assert axes.images[0].get_clim() == (0, 1)
    assert "run a, split test" in figure.get_suptitle()
    _draws(figure)


def test_a_row_of_the_confusion_is_a_labelled_class():
    counts = [[6, 2, 4], [0, 0, 0], [5, 5, 0]]
    axes = confusion_figure(make_details(confusion=Confusion(["car", "bus", "(background)"], counts)), "").axes[0]
    cells = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert [cells[x, 0] for x in range(3)] == [("6\n50%", "black"), ("2\n17%", "black"), ("4\n33%", "black")]
    assert cells[0, 1] == ("0\n0%", "black") and (2, 2) not in cells
    np.testing.assert_allclose(axes.images[0].get_array(), [[1 / 2, 1 / 6, 1 / 3], [0, 0, 0], [1 / 2, 1 / 2, 0]])
    counts[0] = [7, 2, 4]  # 7 of 13 are more than half
    axes = confusion_figure(make_details(confusion=Confusion(["car", "bus", "(background)"], counts)), "").axes[0]
    assert {text.get_position(): text.get_color() for text in axes.texts}[0, 0] == "white"


def test_calibration_shows_intervals_and_numbers():
    figure = calibration_figure(make_details(), "run a, split test")
    upper, lower = figure.axes
    diagonal, line = upper.get_lines()[:2]
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert line.get_xydata().tolist() == [[0.85, 0.2], [0.93, 1.0]]
    assert (diagonal.get_linestyle(), line.get_linewidth(), line.get_color()) == (":", 1, COLOURS[0])
    assert figure.get_size_inches().tolist() == pytest.approx([6.4, 6.6])
    assert upper.get_gridspec().get_height_ratios() == (3, 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "score = share",
        "share of correct detections",
    ]
    assert lower.get_yscale() == "symlog" and lower.get_xlabel() == "score, from 0.05; faded: fewer than 20 detections"
    assert lower.get_ylabel() == "detections"
    assert [container.lines[0].get_xydata().tolist() for container in upper.containers] == [
        [[0.85, 0.2]],
        [[0.93, 1.0]],
    ]
    assert (upper.get_xlim(), upper.get_ylim(), lower.get_ylim()) == ((0, 1), (0, 1.02), (0, 1800))
    assert [bar.get_center()[0] for bar in lower.patches] == pytest.approx([0.05 + 0.1 * index for index in range(10)])
    assert [bar.get_width() for bar in lower.patches] == pytest.approx([0.09] * 10)
    assert [bar.get_alpha() for bar in lower.patches] == [0.35] * 9 + [1]
    assert [text.get_text() for text in lower.texts] == ["0"] * 8 + ["5", "90"]
    low, high = upper.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx(share_interval(0.2, 5))
    assert [container.lines[0].get_alpha() for container in upper.containers] == [0.35, 1]
    _draws(figure)


@pytest.mark.parametrize(
    ("reaction", "text"),
    [
        (Reaction(0, None, None, None), "not measured, because no track begins after the skipped start"),
        (Reaction(4, 0.0, None, None), "of 4 tracks none was found (from the first"),
        (Reaction(4, 0.75, 60.0, 140.0), "of 4 tracks 75.0% found, half of these within 60 ms and 90 % within 140 ms"),
    ],
)
def test_reaction_time_as_text(reaction, text):
    assert f"reaction time: {text}" in details_text(
        make_details(reaction=reaction), StateLeak(1, 2, 3, None, None, None)
    )
