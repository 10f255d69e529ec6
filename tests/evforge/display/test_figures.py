import io
import subprocess
import sys

from matplotlib.figure import Figure

from evforge.display.figures import (
    FEW,
    line_style,
    make_figure,
    make_panels,
    opacity,
    save_figure,
    set_title,
)
from evforge.evaluation.report import pr_curve_figure


def test_figures_without_data_say_so():
    figure = pr_curve_figure({}, "t", {})
    (text,) = figure.axes[0].texts
    assert (text.get_text(), text.get_position()) == ("no data", (0.5, 0.5))
    assert text.get_transform() == figure.axes[0].transAxes
    _draws(figure)


def test_figures_need_no_pyplot():
    code = (
        "import sys; from evforge.evaluation.report import pr_curve_figure as f; f({}, 't', {});"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_few_boxes_are_faded():
    assert FEW == 20
    assert (opacity(20), opacity(19)) == (1, 0.35)


def test_long_titles_are_wrapped():
    figure = make_figure((6.4, 4.8))
    set_title(figure, "Calibration", "run " + "long-name " * 20)
    lines = figure.get_suptitle().split("\n")
    assert lines[0] == "Calibration" and len(lines) > 2 and max(map(len, lines)) <= 77
    set_title(figure, "a" * 76, "b" * 77)  # 6.4 inches are 76 characters
    assert figure.get_suptitle().split("\n") == ["a" * 76, "b" * 76, "b"]


def is_styled(axes):
    axes.figure.canvas.draw()
    ticks, spines = [*axes.xaxis.get_gridlines(), *axes.yaxis.get_gridlines()], axes.spines
    grid = {(line.get_visible(), line.get_alpha()) for line in ticks}
    shown = {side: spine.get_visible() for side, spine in spines.items()}
    frame = {"top": False, "right": False, "left": True, "bottom": True}
    return grid == {(True, 0.3)} and axes.get_axisbelow() is True and shown == frame


def test_panels_are_a_grid_in_the_common_style():
    figure, panels = make_panels("title", 2, 1, (4, 3), sharex=True)
    assert (figure.get_suptitle(), panels.shape, tuple(figure.get_size_inches())) == ("title", (2, 1), (4, 3))
    assert figure.dpi == 120
    assert all(map(is_styled, panels.flat))
    assert panels[0, 0].get_shared_x_axes().joined(*panels.flat)


def test_the_first_28_curves_look_different():
    styles = [tuple(line_style(index).values()) for index in range(29)]
    assert len(set(styles)) == 28 and styles[28] == styles[0] == ("#0072B2", "-")
    assert (styles[6], styles[7], styles[15]) == (("#000000", "-"), ("#0072B2", "--"), ("#D55E00", "-."))


def test_a_failed_figure_leaves_no_old_file(tmp_path, capsys):
    path = tmp_path / "a.png"
    save_figure(path, lambda: make_figure((1, 1)))
    assert path.read_bytes().startswith(b"\x89PNG")
    save_figure(path, lambda: 1 // 0)
    assert list(tmp_path.iterdir()) == []
    assert "a.png was not drawn: ZeroDivisionError" in capsys.readouterr().err


def _draws(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
