"""Verbs about trained detectors: evaluate, predict, export, registry, report, ui."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from evforge.cli.settings import Settings
from evforge.cli.verbs.next_command import print_next

if TYPE_CHECKING:
    from evforge.tracking.tracker import Tracker

__all__ = ["evaluate", "export", "predict", "registry", "report", "ui"]


def evaluate(
    checkpoint: str,
    settings: Annotated[Settings, "data", "eval", "train", "track"],
    *,
    split: Literal["val", "test"] = "test",
    compare: str | None = None,
    json: bool = False,
) -> None:
    """Evaluate a trained detector: COCO mAP, AP by groups of boxes, reaction time, calibration, confusion.

    Args:
        checkpoint: checkpoint, folder of a run or study, or a folder of runs, which means its newest finished run
        split: split to evaluate on
        compare: evaluation.json to compare with, or the folder of an evaluation, run or study; both evaluations must
            have the same data and protocol
        json: print the results as one JSON document
    """
    from evforge.display.json_output import json_text, only_json
    from evforge.evaluation import evaluate as measuring

    path = _finished(checkpoint)
    config = settings.resolve(measuring.checkpoint_config(measuring.find_checkpoint(path)))
    with only_json(json):
        found = measuring.evaluate(path, config, split, compare_with=compare)
    if json:
        print(json_text({**found.to_dict(), "folder": found.folder}))
        return
    print(f"{found.text()}\nfigures, curves and evaluation.json: {found.folder}")
    print_next("export", path, found.checkpoint.parent / "export")


def predict(
    recording: str,
    settings: Annotated[Settings, "data", "eval", "track"],
    *,
    model: str,
    output: list[str],
    score_thresh: float | None = None,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    downsampling: int | None = None,
) -> None:
    """Detect objects in a recording and write the boxes to files or draw them in videos.

    Args:
        recording: DAT, RAW (EVT2, EVT2.1, EVT3), HDF5, CSV or NPY file
        model: model.ptjit or its folder, a checkpoint, folder of a run or study, or a folder of runs, which means its
            newest finished run, models:/NAME@ALIAS, or models:/NAME/3
        output: files to write: .npy (format of label files), .csv, .json (COCO), .gif, .mp4
        score_thresh: minimum score of a box; if not given, the score that is stored in the export
        sensor_height: height of the sensor in pixels, for recordings that do not contain it
        sensor_width: width of the sensor in pixels, for recordings that do not contain it
        downsampling: exponent N, the sensor size is divided by 2^N; chosen to match the training if not given
    """
    from detector.export.form import INFO_NAME
    from evforge.evaluation import predict as predicting

    is_export = (Path(model) / INFO_NAME).is_file()
    chosen = model if is_export or not Path(model).is_dir() else str(_finished(model))
    found = predicting.predict(
        recording,
        chosen,
        output,
        settings.resolve(),
        score_thresh=score_thresh,
        sensor=(sensor_height, sensor_width),
        downsampling=downsampling,
    )
    print(f"{found.text()}\nwritten: {' '.join(output)}")
    if chosen.startswith("models:"):
        print_next(
            "registry",
            "show",
            "--name",
            chosen.removeprefix("models:/").split("@")[0].split("/")[0],
            settings=settings,
            groups=("track",),
        )
    elif is_export or Path(chosen).is_file():
        print_next("inspect", recording, settings=settings, groups=("data",))
    else:
        print_next("export", chosen, Path(chosen) / "export")


def export(
    checkpoint: str,
    output: str,
    *,
    score_thresh: float = 0.4,
    form: str = "torchscript",
    precision: Literal["float32", "bf16", "half"] = "float32",
) -> None:
    """Export a trained detector to a file that runs without EvForge, and check that the file gives the same results.

    The form selects the kind of file. Four forms are TorchScript files (model.ptjit), which store the recurrent state
    of the streams and accept frames of any size: torchscript for any device, torchscript-frozen with constant weights,
    torchscript-cpu for CPUs, and torchscript-int8, which computes most layers in int8 and is the fastest on x86 CPUs
    with AVX-512 VNNI.

    The other forms are torch-export (model.pt2), aotinductor (model.pt2, machine code for this type of processor, needs
    a C++ compiler), and onnx (model.onnx, needs pip install onnx onnxscript onnxruntime). These formats do not support
    models with internal state. Such a file accepts one frame of the trained size and the state of one stream, and
    returns boxes and the new state.

    torchscript-cpu, torchscript-int8 and aotinductor support float32 and bf16, onnx supports float32. The other forms
    support all precisions. half is meant for GPUs and is slow on most CPUs.

    Args:
        checkpoint: checkpoint, folder of a run or study, or a folder of runs, which means its newest finished run
        output: folder to write to
        score_thresh: recommended minimum score of a box, stored in the export
        form: one of the forms above, or the import path of your own ExportForm, such as mylab.forms:MINE
        precision: precision of the network; frames and boxes are always float32
    """
    from detector.config.extensions import EXPORT_FORMS
    from evforge.evaluation import export as exporting

    folder = exporting.export(_finished(checkpoint), output, score_thresh, form, precision)
    print(f"exported model, checked: {folder / EXPORT_FORMS[form].file}")
    print_next("predict", "RECORDING", "--model", folder, "--output", "boxes.csv")


def registry(
    action: Literal["list", "show", "register", "promote", "rollback"],
    settings: Annotated[Settings, "track"],
    *,
    name: str | None = None,
    version: int | None = None,
    checkpoint: str | None = None,
    json: bool = False,
) -> int:
    """List registered models; show, register or promote one; or roll back the last promotion.

    A model is promoted to champion if it is better than the current champion on the same test set with the same
    protocol. The exit code is 1 if promote or rollback is refused.

    Args:
        action: register evaluates a checkpoint on the test split, exports it, registers it, and tries to promote it
        name: name of the registered model; track.registered_model_name if not given
        version: version to show or to promote; the newest if not given
        checkpoint: checkpoint, or folder of the run or study, to register; a folder of runs means its newest finished
            run
        json: print the results as one JSON document
    """
    from evforge.evaluation.checkpoint import find_checkpoint
    from evforge.tracking.tracker import Tracker
    from evforge.training.run_folder import read_record

    if version is not None and action not in ("show", "promote"):
        raise ValueError(f"--version: got {version}, allowed with {action}: none")
    if (checkpoint is not None) != (action == "register"):
        raise ValueError(f"--checkpoint: got {checkpoint}, allowed: folder of a run or study, with register only")
    track = settings.resolve().track
    uri, experiment, name = track.tracking_uri, track.experiment, name or track.registered_model_name
    if checkpoint is not None:
        checkpoint = str(_finished(checkpoint))
        record = read_record(find_checkpoint(checkpoint).parent)
        uri, experiment = uri or record.tracking_uri, record.experiment
    tracker = Tracker(uri, experiment, create=checkpoint is not None and track.tracking_uri is not None)
    if action in ("list", "show"):
        _show(tracker, name if action == "show" else None, version, settings, json)
        return 0
    address = [] if track.tracking_uri or checkpoint is None or uri is None else ["--track.tracking_uri", uri]
    words = ["show", "--name", name, *address]
    return _change(action, tracker, name, version, checkpoint, None if json else (words, settings))


def _show(tracker: "Tracker", name: str | None, version: int | None, settings: Settings, json: bool) -> None:
    """Print all models, or a version of a model (the newest if None), as text with a next command or as JSON."""
    from evforge.display.json_output import json_text
    from evforge.registry import listing

    chosen = listing.newest(tracker, name) if name is not None and version is None else version
    if json:
        print(json_text(listing.facts(tracker, name, chosen)))
        return
    print(listing.overview(tracker) if name is None else listing.describe(tracker, name, chosen))
    words: list[object] = ["registry", "promote", "--name", name, "--version", chosen]
    if name is None:
        names = [model.name for model in tracker.client.search_registered_models()]
        words = ["registry", "show", "--name", names[0]] if names else ["registry", "register", "--checkpoint", "RUN"]
    elif "champion" in tracker.client.get_model_version(name, str(chosen)).aliases:
        words = ["predict", "RECORDING", "--model", f"models:/{name}@champion", "--output", "boxes.csv"]
    verb, *others = words
    print_next(str(verb), *others, settings=settings, groups=("track",))


def _change(
    action: str,
    tracker: "Tracker",
    name: str,
    version: int | None,
    checkpoint: str | None,
    following: tuple[list[str], Settings] | None,
) -> int:
    """Register, promote or roll back, and print the result.

    Args:
        action: "register", "promote" or "rollback".
        tracker: the store.
        name: name of the model.
        version: version to promote; the newest if None.
        checkpoint: checkpoint to register.
        following: words and settings of the next command; None to print the result as JSON.

    Returns:
        The exit code: 1 if a promotion or rollback is refused.
    """
    from evforge.display.json_output import json_text, only_json
    from evforge.registry import listing
    from evforge.registry.promotion import promote, rollback

    with only_json(following is None):
        if checkpoint is not None:
            from evforge.registry.publish import register_checkpoint

            version, result = register_checkpoint(checkpoint, tracker, name)
        elif action == "promote":
            version = version if version is not None else listing.newest(tracker, name)
            result = promote(tracker, name, version)
        else:
            result = rollback(tracker, name)
    if following is None:
        print(json_text({**listing.verdict_facts(name, result), "version": version}))
    else:
        if action == "register":
            print(f"registered as version {version}")
        print(listing.verdict(name, result))
        words, settings = following
        print_next("registry", *words, settings=settings, groups=("track",))
    return 0 if result.moved or action == "register" else 1


def report(study: str, *, output: str | None = None) -> None:
    """Write the report of a study as one HTML page with figures, and store it in MLflow.

    Args:
        study: folder of a finished or running study, or a folder of runs, which means its newest study
        output: folder to write to; "report" in the folder of the study if not given
    """
    from evforge.reports.study_page import report as write
    from evforge.training.run_folder import has_checkpoint, is_study, newest_run

    folder = newest_run(study, is_study, "study")
    print(f"report: {write(folder, output)}")
    if has_checkpoint(folder):
        print_next("evaluate", folder)
    else:
        print_next("tune", "--resume", folder)


def ui(settings: Settings, *, port: int = 5000) -> None:
    """Show runs, metrics and models in a browser: start MLflow's pages on this machine.

    If track.tracking_uri is the address of a server, only its address is printed.

    Args:
        port: port of the pages at http://127.0.0.1
    """
    from evforge.cli.ui import show_pages

    show_pages(settings.resolve().track.tracking_uri, port)


def _finished(path: str) -> Path:
    """Return the newest finished run if `path` is a folder of runs, else `path`."""
    from evforge.training.run_folder import has_checkpoint, newest_run

    return newest_run(path, has_checkpoint, "finished run or study")
