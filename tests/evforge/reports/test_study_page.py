import importlib.metadata
import re
import shlex
from xml.etree import ElementTree

import pytest
from study_trials import study_of, trial

from evforge.reports import plots
from evforge.reports.importances import Importance
from evforge.reports.study_page import _importance_sentence, _metric_sentence, report
from evforge.tracking.tracker import Tracker
from evforge.training.run_folder import HARDWARE_TAG, write_record

SPACE = """space:
  anchors.anchor_list: {choice: [PSEE_ANCHORS, [[1, 1], [2.5, 1]]]}
  model.feature_base: {choice: [2, 4]}
  optim.lr: {loguniform: [1e-4, 1e-2]}
"""


def parsed(text):
    """The page without its programs and figures, as a tree."""
    return ElementTree.fromstring(re.sub(r"<!DOCTYPE html>|<script.*?</script>", "", text, flags=re.S))


def cells_of(tree):
    return [["".join(cell.itertext()) for cell in row] for row in tree.findall(".//tr")]


def test_page_holds_everything(study):
    folder, tracker, parent = study
    tracker.set_tag(parent, HARDWARE_TAG, "1 node, <4> CPU cores")
    tracker.set_tag(parent, "mlflow.source.git.commit", "c0ffee")
    path = report(folder)
    assert path == folder / "report" / "report.html"
    text = path.read_text()
    tree = parsed(text)
    assert tree.findtext("head/title") == "Study study-1"
    assert len(tree.findall(".//div[@class='plot']")) == 10  # seven, and one per searched setting
    assert "not drawn" not in text.partition("<script>")[0]
    assert not re.search(r'<[^>]*\s(src|href)="(?!data:)', re.sub(r"<script.*?</script>", "", text, flags=re.S))

    cells = cells_of(tree)
    assert ["trial-8", "NonFiniteLossError: the loss is <nan> & more"] in cells
    assert ["epochs", "14"] in cells and ["trials", "8: 7 finished, 1 failed"] in cells
    assert ["hardware", "1 node, <4> CPU cores"] in cells and ["git commit", "c0ffee"] in cells
    assert ["EvForge", importlib.metadata.version("evforge")] in cells and ["MLflow run", parent] in cells
    (seconds,) = [int(row[1]) for row in cells if row[0] == "CPU seconds"]
    assert seconds >= 0 and ["GPU seconds", "0"] in cells

    head, *rows = next(table for table in map(cells_of, tree.findall(".//table/..")) if table[0][0] == "trial")
    settings = ["anchors.anchor_list", "model.feature_base", "optim.lr"]
    assert head == ["trial", "val_mean_ap", "status", "epochs", "seconds", *settings]
    assert [row[0] for row in rows[:1] + rows[-1:]] == ["trial-2 (winner)", "trial-8"]
    assert rows[0][1:4] + rows[0][5:] == ["0.4200", "finished", "2", "PSEE_ANCHORS", "4", "0.0002"]
    assert rows[-1][1:4] == ["-", "failed", "0"] and len(rows) == 8
    (summary,) = [part.text for part in tree.findall(".//p[@class='summary']")]
    assert summary.startswith("The winner of 8 trials so far, as the search has not ended, is trial-2 with anchors.")
    assert "Its val_mean_ap is 0.4200 with one seed" in summary and "model.feature_base matters most" in summary
    kept = {item.path for item in tracker.client.list_artifacts(parent, "report")}
    assert kept == {"report/report.html"}


def test_the_page_of_an_ended_study_has_commands_and_no_folder_elsewhere(study, tiny_config):
    folder, tracker, parent = study
    (folder / "best").mkdir()
    write_record(folder / "best", tiny_config, tracker, tracker.runs(parent)[3].run_id)
    text = re.sub(r"<script.*?</script>", "", report(folder).read_text(), flags=re.S)
    tree = parsed(text)
    commands = [shlex.split(code.text) for code in tree.findall(".//code")]
    assert [words[1] for words in commands] == ["evaluate", "export", "registry", "predict", "train"]
    assert all(any(word.startswith(str(folder)) for word in words) for words in commands)
    for code in tree.findall(".//code"):
        code.text = ""
    assert str(folder.parent) not in ElementTree.tostring(tree, encoding="unicode")


def test_a_study_of_one_trial(tiny_config, tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    parent = tracker.start_run("study", {})
    write_record(tmp_path, tiny_config, tracker, parent)
    run = tracker.start_run("trial-1", {**tiny_config.to_flat(), "model.feature_base": 4}, {}, parent)
    tracker.log_metrics(run, {"val_mean_ap": 0.25}, 1)
    text = re.sub(r"<script.*?</script>", "", report(tmp_path).read_text(), flags=re.S)
    assert "The winner of 1 trial so far" in text and "Its val_mean_ap is 0.2500 with one seed" in text
    assert "Which setting matters most is not known: at least 4 trials with a value" in text
    assert "not drawn: no trial has logged parameters" in text
    assert len(parsed(text).findall(".//div[@class='plot']")) == 7


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


def test_a_figure_that_fails_costs_the_page_nothing(study, monkeypatch, capsys):
    def broken(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(plots, "parallel_figure", broken)
    text = report(study[0]).read_text()
    assert "not drawn: no fonts" in text
    assert "'Sampled values' of the report was not drawn: RuntimeError: no fonts" in capsys.readouterr().err
    assert len(parsed(text).findall(".//div[@class='plot']")) == 9


def test_the_page_is_written_before_the_figures(study, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("evforge.reports.study_page.figure_sections", killed)
    with pytest.raises(KeyboardInterrupt):
        report(study[0])
    assert "trial-2 (winner)" in (study[0] / "report" / "report.html").read_text()


def test_a_section_that_cannot_be_read_is_one_line(study, monkeypatch, capsys):
    def broken(*args):
        raise OSError("the server is away")

    monkeypatch.setattr("evforge.reports.study_page.registry_section", broken)
    text = report(study[0]).read_text()
    found = re.findall(r"<h2>([^<]*)</h2>\s*<p[^>]*>not read: the server is away</p>", text)
    assert found == ["Registry"]
    assert "OSError: the server is away" in capsys.readouterr().err


def test_no_study(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        report(tmp_path)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.4], "Its mAP is 0.4000 with one seed, so its interval is not known (see tune.final_seeds)."),
        ([0.4, 0.2], "Its mAP is 0.3000, the mean of 2 seeds, which are too few for an interval: a 0.4000, b 0.2000 ("),
        (
            [0.3, 0.5, 0.4],
            "Its mAP is 0.4000, the mean of 3 seeds, 95 % interval 0.1516 to 0.6484 (Student's t): a 0.3",
        ),
    ],
)
def test_the_metric_has_an_interval_over_three_seeds(values, text):
    pairs = [(trial(name), value) for name, value in zip("abc", values, strict=False)]
    assert _metric_sentence("mAP", pairs).startswith(text)


def test_what_matters_most():
    found = {"lr": Importance(0.7, 0.6, 0.8), "width": Importance(0.2, 0.1, 0.3), "list": Importance(0.1, 0.0, 0.6)}
    sure = "lr matters most: it explains 70 % of the differences between the trials (90 % interval 60 to 80 %)"
    doubt = "; the order is not certain, as its interval overlaps with that of list."
    assert _importance_sentence(found) == sure + doubt
    assert _importance_sentence({key: found[key] for key in ("lr", "width")}) == sure + "."
    assert _importance_sentence("too few") == "Which setting matters most is not known: too few."
    assert study_of().winner is None
