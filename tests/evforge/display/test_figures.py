import io
import subprocess
import sys

from matplotlib.figure import Figure

from evforge.evaluation.report import pr_curve_figure


def test_figures_without_data_say_so():
    figure = pr_curve_figure({}, "t")
    assert [text.get_text() for text in figure.axes[0].texts] == ["no data"]
    _draws(figure)


def test_figures_need_no_pyplot():
    code = (
        "import sys; from evforge.evaluation.report import pr_curve_figure as f; f({}, 't');"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _draws(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
