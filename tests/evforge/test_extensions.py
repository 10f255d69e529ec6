"""Things that a lab adds go through the whole chain; they are in `mylab`, a package outside the product."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_detector import PARAMS, small_ssd

from detector.config import Config
from detector.data.builder.dataset import build_dataset
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.export.bundle import load_exported
from detector.inference.predictor import Predictor
from detector.jitting import export_ssd
from detector.labels import save_labels
from detector.lightning_model import LightningDetectionModel
from evforge.cli.main import main
from evforge.evaluation.evaluate import evaluate
from evforge.evaluation.export import export
from evforge.search.tune import prepare, tune
from evforge.space.space import load_space
from evforge.training.callbacks import ReportMetrics
from evforge.training.run_folder import CHECKPOINT_NAME
from evforge.training.train import check_config, fit

HEIGHT, WIDTH, SECONDS = 64, 96, 2
KINDS = {
    "backbone without state": {"model.feature_extractor": "mylab.nets:TinyNet"},
    "backbone with state": {"model.feature_extractor": "mylab.nets:MeanNet"},
    "backbone that cannot be scripted": {"model.feature_extractor": "mylab.nets:Unscriptable"},
    "representation of floats": {"data.preprocess": "mylab.representations:activity_representation"},
    "representation of bytes": {"data.preprocess": "mylab.representations:levels_representation"},
    "losses": {"loss.cls_loss_func": "mylab.losses:plain_cross_entropy", "loss.box_loss_func": "mylab.losses:l1"},
    "optimizer and schedule": {
        "optim.optimizer": "mylab.training:SignDescent",
        "optim.lr_scheduler": "mylab.training:linear",
    },
    "optimizer of torch": {"optim.optimizer": "torch.optim:SGD"},
}


def make_events():
    """A dense square that moves to the right."""
    rng = np.random.default_rng(0)
    events = np.zeros(8000, EventCD)
    events["t"] = np.sort(rng.integers(0, SECONDS * 1_000_000, 8000))
    events["x"] = 10 + events["t"] // 50_000 + rng.integers(0, 20, 8000)
    events["y"], events["p"] = 20 + rng.integers(0, 20, 8000), rng.integers(0, 2, 8000)
    return events


def make_labels():
    ends = np.arange(50_000, SECONDS * 1_000_000 + 1, 50_000)
    return np.array([(t, 10 + t // 50_000, 20, 20, 20, 0, 0, 1) for t in ends], BBOX_dtype)


def build(folder, data):
    for split in ("train", "val", "test"):
        (folder / "in" / split).mkdir(parents=True)
        write_dat(folder / "in" / split / f"{split}_td.dat", make_events(), HEIGHT, WIDTH)
        save_labels(folder / "in" / split / f"{split}_bbox.npy", make_labels())
    recordings = sorted((folder / "in").glob("*/*.dat"))
    return build_dataset(recordings, folder / "dataset", data, None, {0: "block"}, progress=False)


def train(config, folder):
    """Train in this process; returns the last checkpoint."""
    folder.mkdir()

    def report(metrics, source):
        (folder / "last.ckpt").write_bytes((source / CHECKPOINT_NAME).read_bytes())

    fit(check_config(config), [ReportMetrics(report)], threads=1)
    return folder / "last.ckpt"


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_from_training_to_prediction(tiny_config, tmp_path, checks_pass, changes):
    config = tiny_config.with_overrides({**changes, "train.max_epochs": 1})
    if "data.preprocess" in changes:
        config = config.with_overrides({"data.dataset_path": str(build(tmp_path, config.data))})
    checkpoint = train(config, tmp_path / "run")
    stored = torch.load(checkpoint, weights_only=True)["hyper_parameters"]
    assert {key: stored[key.partition(".")[2]] for key in changes} == changes
    trained = LightningDetectionModel.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    before = LightningDetectionModel(argparse.Namespace(**stored)).state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in trained.state_dict().items() if "rpn" in key)

    found = evaluate(checkpoint, config.with_overrides({"train.storage": str(tmp_path / "evaluation")}), "test")
    assert found.metrics["mean_ap"] is not None and found.state_leak.passed is not False

    form = "torchscript"
    if "mylab.nets:Unscriptable" in changes.values():
        with pytest.raises(
            ValueError, match="form: TorchScript does not support this detector .*allowed: .*torch-export"
        ):
            export(checkpoint, tmp_path / "refused")
        form = "torch-export"
    folder = export(checkpoint, tmp_path / "exported", form=form)
    boxes = list(Predictor(folder, score_thresh=0.0, height=HEIGHT, width=WIDTH)([make_events()]))
    assert len(boxes) == 20 * SECONDS and sum(map(len, boxes)) > 0


@pytest.mark.parametrize("name", ["mylab.nets:TinyNet", "mylab.nets:MeanNet"])
@pytest.mark.parametrize("form", ["torchscript-frozen", "torchscript-cpu", "torch-export", "mylab.forms:PICKLE"])
def test_a_backbone_in_every_form(tiny_config, tmp_path, name, form):
    checkpoint = train(
        tiny_config.with_overrides({"model.feature_extractor": name, "train.max_epochs": 1}), tmp_path / "run"
    )
    folder = export(checkpoint, tmp_path / "exported", form=form)
    assert json.loads((folder / "info_ssd_jit.json").read_text())["form"] == form
    with pytest.raises(ValueError, match=r"torchscript-int8: got '.*Net', allowed: .*the form torchscript-cpu|VNNI"):
        export(checkpoint, tmp_path / "bytes", form="torchscript-int8")


@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        ("model.feature_extractor", "mylab.nets:WrongLevels", r"strides: got \[8, 16, 32\], allowed: \[8, 16\], from"),
        ("model.feature_extractor", "mylab.losses:l1", r"'mylab.losses:l1', which cannot be made \(TypeError"),
        (
            "model.feature_extractor",
            "mylab.nets:NoLevels",
            "got .a module without strides, cout, reset, reset_all",
        ),
        ("model.feature_extractor", "mylab.nets:Missing", r"cannot be imported \(AttributeError: .*'mylab.nets'"),
        (
            "loss.cls_loss_func",
            "yourlab.losses:own",
            r"\(ModuleNotFoundError: No module named 'yourlab'\), allowed: s",
        ),
        ("optim.optimizer", "adamm", "allowed: adam, adamw, .*or an import path such as mylab.module:Name"),
        ("optim.optimizer", "mylab.losses:l1", r"optim.optimizer: got 'mylab.losses:l1', which cannot be made"),
        ("data.preprocess", "mylab.losses:l1", r"data.preprocess: got 'mylab.losses:l1', which cannot be made"),
        ("data.preprocess", "builtins:str", "allowed: a function of DataConfig that returns a detector.preprocess.rep"),
    ],
)
def test_what_does_not_fit_is_refused_before_work_starts(tiny_config, key, name, message):
    with pytest.raises(ValueError, match=message):
        check_config(tiny_config.with_overrides({key: name}))


def test_help_lists_the_stranger_that_was_given(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "Vanilla, Vanilla_VGG, Vanilla_VGGRU, " in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["train", "--model.feature_extractor", "mylab.nets:TinyNet", "--help"])
    output = " ".join(capsys.readouterr().out.split())
    assert output.count("mylab.nets:TinyNet") == 2 and "given: mylab.nets:TinyNet" in output


def test_samples_with_an_unknown_setting_are_refused(tiny_config, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("space: {optim.lr: {uniform: [0.001, 0.002]}}")
    with pytest.raises(ValueError, match="tune.searcher: samples: got 'model.feature_bas', allowed: settings such as"):
        prepare(tiny_config, space, {"tune.searcher": "mylab.wrong:unknown_setting"})


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("mylab.wrong:NUMBER", "form: got 'mylab.wrong:NUMBER', allowed: a detector.export.form.ExportForm"),
        ("mylab.wrong:UNWRITTEN", r"form: got 'mylab.wrong:UNWRITTEN', which cannot be written \(TypeError: no"),
    ],
)
def test_what_is_no_export_form_is_refused(tmp_path, form, message):
    with pytest.raises(ValueError, match=message):
        export_ssd(small_ssd(), PARAMS, tmp_path, 0.5, 0.3, form=form)


def test_an_export_form_that_cannot_be_loaded_is_named(tmp_path):
    export_ssd(small_ssd(), PARAMS, tmp_path, 0.5, 0.3, form="mylab.wrong:UNREAD")
    with pytest.raises(ValueError, match="model.unread: cannot be loaded: KeyError: 'key'"):
        load_exported(tmp_path)


@pytest.mark.parametrize(
    ("key", "option", "message"),
    [
        (
            "model.first_stride",
            12,
            "first_stride 12.* is not a valid configuration: first_stride: got 12, allowed: 8 or 16",
        ),
        ("model.feature_extractor", "mylab.nets:WrongLevels", "strides: got"),
        ("loss.cls_loss_func", "mylab.losses:none", "cannot be imported"),
        ("loss.cls_loss_func", "mylab.wrong:constant", "loss.cls_loss_func: result: got 3.0"),
        ("optim.optimizer", "os:getcwd", "optim.optimizer: got 'os:getcwd', which cannot be made"),
        ("data.preprocess", "timesurface", "allowed by data.preprocess"),
        ("data.preprocess", "mylab.nothing:none", "cannot be imported"),
    ],
)
def test_a_space_with_an_option_that_cannot_be_trained_is_refused(tiny_config, tmp_path, key, option, message):
    space = tmp_path / "space.yaml"
    space.write_text(json.dumps({"space": {key: {"choice": [tiny_config.to_flat()[key], option]}}}))
    with pytest.raises(ValueError, match=message):
        prepare(tiny_config, space)


@pytest.mark.usefixtures("ray_head")
def test_a_search_with_own_sampler_and_scheduler(tiny_config, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("space: {optim.lr: {uniform: [0.001, 0.002]}}")
    changes = {
        "tune.searcher": "mylab.search:two_samples",
        "tune.scheduler": "mylab.search:KeepFirst",
        "tune.max_concurrent": 1,
        "tune.final_seeds": 1,
    }
    result = tune(tiny_config, space, changes)
    assert [row.status.partition(",")[0] for row in result.rows] == ["finished", "stopped early"]
    drawn = [sample["optim.lr"] for sample in load_space(space).random_samples(tiny_config, 2, seed=7)]
    assert Config.load(result.best_config).optim.lr in drawn


@pytest.mark.soak
def test_commands_find_modules_of_the_working_folder(tiny_config, tmp_path):
    """`evforge` alone, as a user calls it: workers of Ray Train find the modules, too."""
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "theirs").symlink_to(Path(__file__).parents[1] / "helpers" / "mylab")
    config = tiny_config.with_overrides({"model.feature_extractor": "theirs.nets:MeanNet", "train.max_epochs": 1})
    (lab / "config.yaml").write_text(config.to_yaml())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if "helpers" not in path)}

    def run(*words):
        command = [
            sys.executable,
            "-c",
            "import sys; sys.path.pop(0); from evforge.cli.main import main; sys.exit(main())",
        ]
        done = subprocess.run([*command, *words], cwd=lab, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "best checkpoint" in run("train", "--config", "config.yaml", "--train.use_gpu", "false")
    (folder,) = (tmp_path / "runs").glob("train-*")
    assert "exported model, checked" in run("export", str(folder), str(tmp_path / "exported"))
