"""Verbs about trained detectors: measure, use, export, register, report."""

from typing import Literal

from evforge.cli.parser import Settings

__all__ = ["evaluate", "export", "predict", "registry", "report"]


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
    from evforge.evaluation import evaluate as measuring

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
    from evforge.evaluation import predict as predicting

    found = predicting.predict(
        recording,
        model,
        output,
        settings.resolve(),
        score_thresh=score_thresh,
        sensor=(sensor_height, sensor_width),
        downsampling=downsampling,
    )
    print(f"{found.text()}\nwritten: {' '.join(output)}")


def export(
    checkpoint: str,
    output: str,
    *,
    score_thresh: float = 0.4,
    form: str = "torchscript",
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
        form: kind of file: one of the above, or the import path of an ExportForm of yours, such as mylab.forms:MINE
        precision: precision of the network; frames and boxes are float32 whatever it is
    """
    from detector.config.extensions import EXPORT_FORMS
    from evforge.evaluation import export as exporting

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
    from evforge.registry import listing as table
    from evforge.registry.promotion import promote, rollback
    from evforge.tracking.tracker import Tracker

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
        from evforge.registry.publish import register_checkpoint

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
    from evforge.reports.study_page import report as write

    print(f"report: {write(study, output)}")
