"""The verbs of the `evforge` command: plain functions whose signatures are their command lines.

Each imports what it needs inside itself, so that `evforge --help` answers at once, and ends with what it made and
where.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from evforge.arguments import Command, Settings, parse
from evforge.verbs_data import anchors, build, check, inspect, synth

__all__ = ["VERBS"]


def quickstart(settings: Settings, *, output: str | None = None) -> None:
    """Run the whole chain on synthetic recordings: data, search, evaluation, export, registration.

    Args:
        output: folder for everything it makes; runs/quickstart-<time> if not given
    """
    from evforge import quickstart as chain
    from evforge.space import load_space

    config = settings.resolve(chain.recipe(), load_space(chain.space_file()).settings)
    chain.quickstart(config, output, settings.overrides)


def train(settings: Settings, *, resume: str | None = None) -> None:
    """Train a detector.

    Args:
        resume: folder of an earlier run to go on with; its settings hold unless others are given
    """
    from detector.config import Config
    from evforge import train as training
    from evforge.runs import CONFIG_FILE

    base = Config.load(Path(resume) / CONFIG_FILE) if resume is not None else None
    result = training.train(settings.resolve(base), resume)
    figures = "  ".join(f"{name} {result.metrics[f'val_{key}']:.3f}" for name, key in _FIGURES.items())
    print(f"val {figures}\nbest checkpoint: {result.best_checkpoint}\nnext: evforge evaluate {result.path}")


def tune(settings: Settings, space: str | None = None, *, resume: str | None = None, dry_run: bool = False) -> None:
    """Search anchors, thresholds, widths, or any other setting.

    Args:
        space: YAML file of the search space, see tune_spaces/
        resume: folder of a study that was cut off, to go on with; its settings and space hold
        dry_run: show what would be searched, with what and at which cost, and start nothing
    """
    from evforge import tune as search
    from evforge.plan import describe_plan
    from evforge.space import load_space

    if resume is not None:
        if dry_run or space is not None or settings.file is not None or settings.overrides:
            raise ValueError("--resume: the study's own space and settings hold, allowed: nothing besides")
        result = search.resume(resume)
    elif space is None:
        raise ValueError("space: is missing, allowed: a YAML file of a search space, or --resume FOLDER")
    else:
        settings.resolve(between=load_space(space).settings)
        if dry_run:
            print(describe_plan(*search.prepare(settings.resolve(), space, settings.overrides)))
            return
        result = search.tune(settings.resolve(), space, settings.overrides)
    print(f"best settings: {result.best_config}\nbest checkpoint: {result.best_checkpoint}")
    print(f"next: evforge evaluate {result.path}, or evforge train --config {result.best_config}")


def evaluate(
    checkpoint: str, settings: Settings, *, split: Literal["val", "test"] = "test", compare: str | None = None
) -> None:
    """Measure a trained detector: COCO mAP, by what boxes are like, latency, calibration, confusion.

    Args:
        checkpoint: checkpoint, or folder of a run or study
        split: what to measure on
        compare: an earlier evaluation to set beside it, or the folder of its run or study; refused if its data or
            protocol differ
    """
    from evforge import evaluate as measuring

    config = settings.resolve(measuring.checkpoint_config(measuring.find_checkpoint(checkpoint)))
    found = measuring.evaluate(checkpoint, config, split, compare_with=compare)
    print(f"{found.text()}\npictures, curves and evaluation.json: {found.folder}")


def predict(
    recording: str,
    settings: Settings,
    *,
    model: str,
    output: list[str],
    score_thresh: float | None = None,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    downsampling: int | None = None,
) -> None:
    """Detect in a recording: boxes as files, and films of them.

    Args:
        recording: DAT, RAW (EVT2, EVT2.1, EVT3), HDF5, CSV or NPY file
        model: model.ptjit or its folder, a checkpoint, folder of a run or study, models:/NAME@ALIAS, models:/NAME/3
        output: files to write: .npy (as label files), .csv, .json (COCO), .gif, .mp4
        score_thresh: lowest score of a box; that of the export if not given
        sensor_height: height of the sensor in pixels, for recordings that do not tell it
        sensor_width: width of the sensor in pixels, for recordings that do not tell it
        downsampling: k divides the sensor by 2^k; to the size of the training if not given
    """
    from evforge import predict as predicting

    track, sensor = settings.resolve().track, (sensor_height, sensor_width)
    found = predicting.predict(
        recording, model, output, track, score_thresh=score_thresh, sensor=sensor, downsampling=downsampling
    )
    print(f"{found.text()}\nwritten: {' '.join(output)}")


def export(
    checkpoint: str,
    output: str,
    *,
    score_thresh: float = 0.4,
    form: Literal[
        "torchscript",
        "torchscript-frozen",
        "torchscript-cpu",
        "torchscript-int8",
        "torch-export",
        "aotinductor",
        "onnx",
    ] = "torchscript",
    precision: Literal["float32", "bf16", "half"] = "float32",
) -> None:
    """Write a trained detector as a file that runs without EvForge, and check that it answers as the detector does.

    TorchScript (model.ptjit) holds the memory of the streams and takes frames of any size, in four forms: torchscript
    for any device, torchscript-frozen with weights as constants, torchscript-cpu for CPUs, torchscript-int8 for x86
    with AVX-512 VNNI, the fastest there: most of its sums are of bytes. The other forms take a frame of the trained
    size and the memory of one stream, and return both boxes and memory: torch-export (model.pt2), aotinductor
    (model.pt2, machine code for this kind of processor, needs a C++ compiler), onnx (model.onnx, needs pip install onnx
    onnxscript onnxruntime). They know no model that changes from call to call, which is why they hold no memory.

    torchscript-cpu, torchscript-int8 and aotinductor come in float32 and bf16, onnx in float32, the others in all
    precisions; half is made for GPUs and slow on most CPUs.

    Args:
        checkpoint: checkpoint, or folder of a run or study
        output: folder to write to
        score_thresh: score from which users of the file should show a box
        form: kind of file
        precision: precision of the network; frames and boxes are float32 whatever it is
    """
    from detector.export_forms import EXPORT_FORMS
    from evforge import export as exporting

    folder = exporting.export(checkpoint, output, score_thresh, form, precision)
    print(f"exported model, checked: {folder / EXPORT_FORMS[form].file}")


def registry(
    action: Literal["list", "show", "register", "promote", "rollback"],
    settings: Settings,
    *,
    name: str | None = None,
    version: int | None = None,
    checkpoint: str | None = None,
) -> int:
    """List registered models, show or register one, promote one to champion if it is better, or take that back.

    A model is promoted if it is better than the champion on the same test set by the same protocol. Ends with code 1
    if promote or rollback is refused.

    Args:
        action: what to do; register measures on the test split, exports, registers, and then promotes
        name: registered model; track.registered_model_name if not given
        version: version of it, to show or to promote; the newest if not given
        checkpoint: folder of the run or study to register
    """
    from evforge import registry_table as table
    from evforge.gate import promote, rollback
    from evforge.tracking import Tracker

    if version is not None and action not in ("show", "promote"):
        raise ValueError(f"--version: got {version}, allowed with {action}: none")
    if (checkpoint is not None) != (action == "register"):
        raise ValueError(f"--checkpoint: got {checkpoint}, allowed: folder of a run or study, with register only")
    track = settings.resolve().track
    tracker, name = Tracker(track.tracking_uri, track.experiment), name or track.registered_model_name
    if action in ("list", "show"):
        print(table.overview(tracker) if action == "list" else table.describe(tracker, name, version))
        return 0
    if checkpoint is not None:
        from evforge.handover import register_checkpoint

        version, result = register_checkpoint(checkpoint, tracker, name)
        print(f"registered as version {version}\n{table.verdict(name, result)}")
        return 0
    if action == "promote":
        result = promote(tracker, name, version if version is not None else table.newest(tracker, name))
    else:
        result = rollback(tracker, name)
    print(table.verdict(name, result))
    return 0 if result.moved else 1


def report(study: str, *, output: str | None = None) -> None:
    """Write a study down as one page with its pictures, and keep the same in MLflow.

    Args:
        study: folder of a study, ended or not
        output: folder to write to; report in the study's folder if not given
    """
    from evforge.report_study import report as write

    print(f"report: {write(study, output)}")


def submit(
    command: Command,
    *,
    address: str | None = None,
    status: str | None = None,
    logs: str | None = None,
    stop: str | None = None,
    list: bool = False,
) -> int:
    """Run a command on a cluster: evforge submit -- tune space.yaml --config settings.yaml.

    Ships the code and the YAML files that the command names, follows the log, and ends as the command does. Ctrl-C
    leaves the job running. Commands: build, train, tune.

    Args:
        command: the command line after --
        address: Ray's job server; that of RAY_API_SERVER_ADDRESS or RAY_ADDRESS, or http://127.0.0.1:8265 if not given
        status: id of a job to say the state of
        logs: id of a job to follow again
        stop: id of a job to end
        list: show all jobs
    """
    from evforge import submit as jobs

    asked = {"--status": status, "--logs": logs, "--stop": stop, "--list": list or None, "-- VERB ...": command or None}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"submit: got {' and '.join(given) or 'nothing'}, allowed: one of {', '.join(asked)}")
    if not command:
        return jobs.look_after(given[0], status or logs or stop or "", address)
    if command[0] not in jobs.JOBS:
        raise ValueError(f"submit: got {command[0]!r}, allowed: {', '.join(jobs.JOBS)}")
    return jobs.submit(command, parse(command[0], VERBS[command[0]], command[1:]), address)


def doctor(settings: Settings, *, address: str | None = None) -> int:
    """Look at what is installed, reachable or mismatched: here, and on a cluster if one is named.

    The cluster is the one of --address or RAY_ADDRESS. With settings it is asked for what they need, too.

    Args:
        address: Ray's job server on the cluster, such as http://127.0.0.1:8265
    """
    from evforge.doctor import doctor as look

    config = settings.resolve()
    return look(config if settings.file is not None or settings.overrides else None, address)


VERBS: dict[str, Callable[..., int | None]] = {
    "quickstart": quickstart,
    "synth": synth,
    "build": build,
    "inspect": inspect,
    "check": check,
    "anchors": anchors,
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "registry": registry,
    "report": report,
    "submit": submit,
    "doctor": doctor,
}

_FIGURES = {"mAP": "mean_ap", "mAP50": "mean_ap50"}
