import re
from xml.etree import ElementTree

import pytest

from evforge.reports.figures import coverage_scatter
from evforge.reports.study_page import report
from evforge.tracking.tracker import Tracker
from evforge.training.run_folder import write_record

SPACE = """space:
  anchors.anchor_list: {choice: [PSEE_ANCHORS, [[1, 1], [2.5, 1]]]}
  model.feature_base: {choice: [2, 4]}
  optim.lr: {loguniform: [1e-4, 1e-2]}
"""
PARALLEL = "parallel_coordinates.png"


def test_page_holds_everything(study, monkeypatch):
    folder, tracker, parent = study
    scatters = []
    monkeypatch.setattr(
        "evforge.reports.study_page.coverage_scatter",
        lambda *args: scatters.append(coverage_scatter(*args)) or scatters[0],
    )
    path = report(folder)
    assert path == folder / "report" / "report.html"
    text = path.read_text()
    tree = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert len(tree.findall(".//img")) == 6
    assert not re.search(r'(src|href)="(?!data:)', text), "nothing is fetched"
    cells = [["".join(cell.itertext()) for cell in row] for row in tree.findall(".//tr")]
    assert ["trial-8", "NonFiniteLossError: the loss is <nan> & more"] in cells
    assert ["epochs", "14"] in cells
    assert ["trials", "8: 7 finished, 1 failed"] in cells
    (seconds,) = [int(row[1]) for row in cells if row[0] == "CPU seconds"]
    assert seconds >= 0 and ["GPU seconds", "0"] in cells
    (scatter,) = scatters
    assert [len(line.get_xdata()) for line in scatter.axes[0].get_lines()] == [3, 4]  # measured trials of each list
    lists = [text.get_text() for text in scatter.legends[0].get_texts()]
    assert lists == ["1:1 2.5:1", "PSEE_ANCHORS"]
    kept = {item.path for item in tracker.client.list_artifacts(parent, "report")}
    assert {f"report/{name}" for name in ("report.html", PARALLEL, "val_mean_ap_latency_ms.png")} <= kept


def test_a_study_that_has_measured_nothing(tiny_config, tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    parent = tracker.start_run("study", {})
    write_record(tmp_path, tiny_config, tracker, parent)
    tracker.start_run("trial-1", {"model.feature_base": -1}, {}, parent)
    text = report(tmp_path, tmp_path / "out").read_text()
    assert "No trial has a validation yet." in text
    assert "not recorded" in text
    assert "running" in text


def test_what_cannot_be_drawn_says_why(study, tiny_config):
    folder, tracker, parent = study
    config = tiny_config.with_overrides({"data.dataset_path": str(folder / "gone")})
    write_record(folder, config, tracker, parent)
    text = report(folder).read_text()
    assert "not drawn: data.dataset_path: got" in text


def test_a_figure_that_fails_costs_the_page_nothing(study, monkeypatch, capsys):
    def broken(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("evforge.reports.study_page.parallel_figure", broken)
    text = report(study[0]).read_text()
    assert "not drawn: RuntimeError: no fonts" in text or "not drawn: no fonts" in text
    assert "parallel_coordinates.png was not drawn: RuntimeError: no fonts" in capsys.readouterr().err
    assert len(ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>")).findall(".//img")) == 5


def test_no_study(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        report(tmp_path)
