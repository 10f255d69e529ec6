import inspect
import typing
from pathlib import Path
from types import SimpleNamespace

import pytest

from detector.config.extensions import EXPORT_FORMS
from detector.export.form import INFO_NAME, PRECISIONS
from evforge.cli.settings import Settings
from evforge.cli.verbs import models
from evforge.evaluation import evaluate, export, predict
from evforge.reports import study_page
from evforge.training import run_folder

TRACK = Settings(None, {"track.tracking_uri": "http://ada:pw7@h:5000", "eval.nms_thresh": "0.4"})


@pytest.fixture
def run(tmp_path):
    """Folder of a finished run in a folder of runs."""
    folder = tmp_path / "my runs" / "a"
    folder.mkdir(parents=True)
    (folder / run_folder.BEST_CHECKPOINT).touch()
    (folder / run_folder.RECORD_FILE).touch()
    return folder


def test_the_command_line_names_the_forms_and_precisions():
    assert all(name in inspect.getdoc(models.export) for name in EXPORT_FORMS)
    assert typing.get_args(typing.get_type_hints(models.export)["precision"]) == tuple(PRECISIONS)


def test_a_folder_of_runs_is_evaluated_and_its_newest_run_is_exported_next(run, monkeypatch, capsys):
    found = SimpleNamespace(text=lambda: "mAP 0.5", folder=run / "evaluate-test", checkpoint=run / "best.ckpt")
    calls = []
    monkeypatch.setattr(evaluate, "find_checkpoint", lambda path: path)
    monkeypatch.setattr(evaluate, "checkpoint_config", lambda path: Settings().resolve())
    monkeypatch.setattr(evaluate, "evaluate", lambda *args, **options: calls.append((args, options)) or found)
    models.evaluate(str(run.parent), TRACK, split="val")
    (((path, config, split), options),) = calls
    assert (path, config.eval.nms_thresh, split, options) == (run, 0.4, "val", {"compare_with": None})
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"figures, curves and evaluation.json: {run / 'evaluate-test'}",
        f"next: evforge export '{run}' '{run / 'export'}'",
    ]


def test_an_exported_model_predicts_next(run, monkeypatch, capsys):
    monkeypatch.setattr(export, "export", lambda checkpoint, output, *_: Path(output))
    models.export(str(run), "out folder")
    assert capsys.readouterr().out.splitlines() == [
        "exported model, checked: out folder/model.ptjit",
        "next: evforge predict RECORDING --model 'out folder' --output boxes.csv",
    ]


@pytest.mark.parametrize(
    ("model", "following"),
    [
        ("models:/street@champion", "registry show --name street --track.tracking_uri=http://h:5000"),
        ("models:/street/3", "registry show --name street --track.tracking_uri=http://h:5000"),
        ("exported", "inspect a.raw"),
        ("RUN", "export 'RUN' 'RUN/export'"),
    ],
)
def test_the_command_after_a_prediction_depends_on_the_model(run, monkeypatch, tmp_path, capsys, model, following):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / INFO_NAME).touch()
    monkeypatch.setattr(predict, "predict", lambda *_, **__: SimpleNamespace(text=lambda: "3 boxes"))
    models.predict("a.raw", TRACK, model=model.replace("RUN", str(run)), output=["b.csv", "b.mp4"])
    assert capsys.readouterr().out.splitlines() == [
        "3 boxes",
        "written: b.csv b.mp4",
        f"next: evforge {following.replace('RUN', str(run))}",
    ]


def test_a_report_of_a_running_study_is_followed_by_its_end(tmp_path, monkeypatch, capsys):
    study = tmp_path / "study"
    study.mkdir()
    for name in (run_folder.RECORD_FILE, run_folder.SPACE_FILE):
        (study / name).touch()
    monkeypatch.setattr(study_page, "report", lambda folder, output: "page.html")
    models.report(str(tmp_path))
    assert capsys.readouterr().out == f"report: page.html\nnext: evforge tune --resume {study}\n"
    (study / run_folder.BEST_CHECKPOINT).touch()
    models.report(str(tmp_path))
    assert capsys.readouterr().out == f"report: page.html\nnext: evforge evaluate {study}\n"
