import json
import re

import pytest
from study_trials import study_of, trial

from detector.config import Config
from evforge.reports import plots
from evforge.reports.importances import Importance
from evforge.reports.plots import figure_sections

DOMAINS = {"optim.lr": {"loguniform": [1e-4, 1e-2]}, "model.feature_base": {"choice": [2, 4]}}
ROWS = {"a": (0.2, 1e-3, 2), "b": (0.5, 1e-2, 4), "<c>": (0.3, 1e-4, 2)}


@pytest.fixture
def trials():
    return [
        trial(
            name,
            [value],
            values={"optim.lr": lr, "model.feature_base": width},
            costs={"parameters": 1e6 * width, "latency_ms": 5.0},
            config=Config(),
        )
        for name, (value, lr, width) in ROWS.items()
    ]


def figures_of(sections):
    """The content of each figure by its title."""
    start = r'<h[23]>([^<]*)</h[23]>\s*<div class="wide"><div class="plot"'
    found = re.findall(start + r".*?json\">(.*?)</script>", "".join(sections), re.DOTALL)
    return {title: json.loads(content) for title, content in found}


def test_every_trial_is_in_every_figure(trials, monkeypatch):
    monkeypatch.setattr(plots, "measure_coverages", lambda study: {"a": 0.5, "b": 0.75, "<c>": 1.0})
    found = figures_of(figure_sections(study_of(*trials, domains=DOMAINS), "too few"))
    assert list(found) == [
        "Learning curves",
        "optim.lr",
        "model.feature_base",
        "History",
        "Sampled values",
        "val_mean_ap against latency",
        "val_mean_ap against parameters",
        "Anchor coverage",
    ]
    for title, content in found.items():
        text = json.dumps(content["data"])
        assert all(f"<b>{name}</b>" in text for name in ("a", "b", "&lt;c&gt;")), title
        assert "<c>" not in text
    best = found["optim.lr"]["data"][-1]
    assert (best["x"], best["y"], best["name"]) == ([0.01], [0.5], "winner")
    assert (
        best["text"][0]
        == "<b>b</b><br>val_mean_ap 0.5000<br>optim.lr 0.01<br>model.feature_base 4<br>1 epochs, finished"
    )
    best, points = found["History"]["data"]
    assert (points["x"], points["y"], best["y"]) == ([1, 2, 3], [0.2, 0.5, 0.3], [0.2, 0.5, 0.5])
    assert found["val_mean_ap against parameters"]["data"][-1]["x"] == [2.0, 4.0]
    assert [trace["x"] for trace in found["Anchor coverage"]["data"]] == [[0.5, 0.75, 1.0]]


def test_texts_and_units_of_the_figures(trials, monkeypatch):
    monkeypatch.setattr(plots, "measure_coverages", lambda study: {"a": 0.5, "b": 0.75})
    sections = figure_sections(study_of(*trials, domains=DOMAINS), {"optim.lr": Importance(0.75, 0.5, 1.0)})
    found = figures_of(sections)
    title = {name: content["layout"]["xaxis"]["title"]["text"] for name, content in found.items()}
    assert title["val_mean_ap against latency"] == "latency per frame in ms, network alone"
    assert title["val_mean_ap against parameters"] == "parameters in millions"
    assert found["Importance"]["data"][0]["x"] == [0.75]
    (only,) = found["Anchor coverage"]["data"]
    assert (only["x"], only["y"], only["name"]) == ([0.5, 0.75], [0.2, 0.5], "PSEE_ANCHORS")
    assert only["text"][1].endswith("<br>coverage 0.750")
    (others, best) = found["val_mean_ap against latency"]["data"]
    assert (best["x"], best["y"], others["y"]) == ([5.0], [0.5], [0.2, 0.3])
    assert others["text"][0].endswith("1 epochs, finished<br>latency_ms 5")
    assert found["optim.lr"]["layout"]["xaxis"]["type"] == "log"
    assert [curve["line"]["width"] for curve in found["Learning curves"]["data"]] == [1.3, 1.3, 3]


def test_smaller_values_are_better_in_a_search_for_the_smallest(trials):
    found = figures_of(figure_sections(study_of(*trials, domains=DOMAINS, mode="min"), "few"))
    assert found["History"]["data"][0]["y"] == [0.2, 0.2, 0.2]
    assert found["optim.lr"]["data"][-1]["y"] == [0.2]
    lines = [trace for trace in found["Sampled values"]["data"] if trace.get("text")]
    assert lines[-1]["text"].startswith("<b>a</b>"), "the best one is in front"


def test_what_cannot_be_drawn_says_why(trials):
    study = study_of(*(trial(one.name, [0.5]) for one in trials), domains=DOMAINS)
    text = "".join(figure_sections(study, "too few trials"))
    for reason in (
        "too few trials",
        "the sampled values of the trials were not recorded",
        "no trial has logged latency_ms",
        "no trial has logged parameters",
        "data.dataset_path: got",
    ):
        assert f"not drawn: {reason}" in text
    assert list(figures_of([text])) == ["Learning curves", "History"]


def test_a_figure_that_fails_is_one_line(trials, monkeypatch, capsys):
    monkeypatch.setattr(plots, "setting_figure", lambda *args: 1 / 0)
    study = study_of(*trials, domains=DOMAINS)
    assert "".join(figure_sections(study, "few")).count("not drawn: division by zero") == 2
    assert "'optim.lr' of the report was not drawn: ZeroDivisionError" in capsys.readouterr().err


def test_a_study_without_values_has_no_figures():
    assert figure_sections(study_of(trial("a")), "few") == []
