"""Exported detectors against eager float32 and torchvision's detectors: milliseconds a frame, batch 1, one thread.

`python tests/benchmarks/inference.py [--threads N] [--rounds N] [--compiled] [--checkpoint FILE]`.
`Vanilla(2, 16, 256)` and every peer take frames of the same size and end with boxes after non-maximum suppression;
torchvision's are kept from resizing. The rounds of all forms of a size are interleaved in one process, each starting
with another form, and their medians compared: absolute figures depend on the machine, ratios carry over. `--compiled`
adds the forms that take a minute to build. With the checkpoint of a trained detector, each form's mAP on its test split
is set against that of the detector itself, and its boxes after suppression are matched with the detector's.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from rounds import Row, arguments, medians, parse, print_rows
from torch import Tensor
from torchvision.models.detection import retinanet_resnet50_fpn, ssdlite320_mobilenet_v3_large
from torchvision.ops import box_iou

from detector.config import Config
from detector.config.extensions import EXPORT_FORMS
from detector.evaluation.collector import FramePredictions
from detector.export.bundle import load_exported
from detector.export.form import METHODS
from detector.export.parity import CONFIDENT, MATCH_IOU
from detector.export.write import in_precision
from detector.jitting import SSD, export_ssd
from detector.lightning_model import LightningDetectionModel
from detector.single_stage_detector import SingleStageDetector

SIZES = ((240, 304), (360, 640))
SCORE, NMS = 0.4, 0.5
SCRIPTED = [
    (name, precision)
    for name in ("torchscript", "torchscript-frozen", "torchscript-cpu", "torchscript-int8")
    for precision in ("float32", "bf16")
    if not EXPORT_FORMS[name].missing(precision)  # of this processor
]
TARGETS = {("torchscript", "bf16"): 2.0, ("torchscript-int8", "bf16"): 3.0}
"""Times the speed of eager float32 that are asked for: of TorchScript in bf16, and of the fastest form."""

Form = Callable[[Tensor], object]


def vanilla(base: int = 16, channels: int = 256) -> SSD:
    torch.manual_seed(0)
    net = SingleStageDetector("Vanilla", 2, 3, base, channels, "PSEE_ANCHORS")
    return SSD(net.to(memory_format=torch.contiguous_format))


def load(ssd: SSD, form: str, precision: str, height: int, width: int, params: dict[str, Any] | None = None) -> Any:
    """Export and open a form."""
    values = params or {**vars(Config().to_hparams()), "classes": ["a", "b", "c"], "label_map": {}}
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"height": height, "width": width}
        export_ssd(ssd, {**values, **sizes}, folder, NMS, SCORE, form=form, precision=precision)
        return load_exported(folder, "cpu")[0]


def forms(make: Callable[[], SSD], height: int, width: int, compiled: bool) -> Iterator[tuple[str, Form, float | None]]:
    """Names, calls and targets."""

    def detect(model: Any) -> Form:
        return lambda frame: model.detect(frame[None, None], SCORE, NMS)

    ssd = make()
    yield "eager float32", detect(ssd), None
    yield "eager float32 channels_last", detect(make().to(memory_format=torch.channels_last)), None
    for form, precision in SCRIPTED:
        yield f"{form} {precision}", detect(load(ssd, form, precision, height, width)), TARGETS.get((form, precision))
    optimised = torch.jit.optimize_for_inference(torch.jit.script(ssd), list(METHODS))
    yield "optimize_for_inference float32", detect(optimised), None
    if compiled:
        yield "aotinductor bf16", detect(load(ssd, "aotinductor", "bf16", height, width)), None
        yield "torch.compile bf16", compiled_step(ssd, height, width), None


def compiled_step(ssd: SSD, height: int, width: int) -> Form:
    """A time step that `torch.compile` optimised for constant weights; without suppression."""
    from torch._inductor import config

    from detector.export.backends.stateless import StepModule

    config.freezing = True
    module = StepModule(in_precision(ssd, "bf16"), height, width).eval()
    step, state = torch.compile(module), [s.clone() for s in module.example[1]]

    def run(frame: Tensor) -> object:
        boxes, scores, after = step(frame[None], state)
        for place, value in zip(state, after, strict=True):
            place.copy_(value)
        return boxes, scores

    return run


def peers(height: int, width: int) -> Iterator[tuple[str, Form, float | None]]:
    weights = {"weights": None, "weights_backbone": None, "num_classes": 4}
    for builder in (ssdlite320_mobilenet_v3_large, retinanet_resnet50_fpn):
        model = builder(**weights, score_thresh=SCORE, nms_thresh=NMS).eval()
        model.transform.fixed_size = (width, height)  # the tensor's own: nothing is resized
        yield builder.__name__, lambda frame, model=model: model([torch.cat([frame, frame[:1]])]), None


def measure(ssd: Callable[[], SSD], height: int, width: int, rounds: int, compiled: bool) -> list[Row]:
    rows = [*forms(ssd, height, width, compiled), *peers(height, width)]
    frame = (torch.rand(2, height, width, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    calls = {name: partial(form, frame) for name, form, _ in rows}
    with torch.no_grad():  # what torch.compile with constant weights asks for
        for call in 2 * list(calls.values()):  # TorchScript and oneDNN settle in the first rounds
            call()
        seconds = medians(calls, rounds)
    base, size = seconds["eager float32"], f"{width}x{height}"
    return [
        Row(
            f"{name}, {size}",
            "eager float32",
            f"{1e3 * seconds[name]:.1f} ms",
            f"{1e3 * base:.1f} ms",
            base / seconds[name],
            asked,
        )
        for name, _, asked in rows
    ]


def as_detections(rows: Tensor) -> dict[str, Tensor]:
    corners = torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:4]], dim=1)
    return {"boxes": corners, "scores": rows[:, 4], "labels": rows[:, 5].long()}


def matched(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> tuple[int, int]:
    """Detections of the first, and how many of them the second has."""
    sure = wanted["scores"] >= CONFIDENT
    same = wanted["labels"][sure, None] == found["labels"]
    near = (box_iou(wanted["boxes"][sure], found["boxes"]) >= MATCH_IOU) & same
    return int(sure.sum()), int(near.any(dim=1).sum()) if near.numel() else 0


def accuracy(checkpoint: str) -> list[dict[str, Any]]:
    """mAP of every TorchScript form on the test split."""
    model = LightningDetectionModel.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    ssd = SSD(model.detector, model.hparams["anchor_list"])
    params = {**model.hparams, "classes": model.classes, "label_map": model.label_map}
    others = {f"{name} {kind}": load(ssd, name, kind, model.height, model.width, params) for name, kind in SCRIPTED}
    others["torchscript half"] = load(ssd, "torchscript", "half", model.height, model.width, params)
    models = {"eager float32": ssd, **others}
    predictions: dict[str, FramePredictions] = {name: model.new_predictions() for name in models}
    counts = {name: [0, 0] for name in models}
    for batch in model.test_dataloader():
        answers: dict[str, list] = {}
        for name, each in models.items():
            each.reset(batch["mask_keep_memory"])
            with torch.no_grad():
                steps = each.detect(batch["inputs"], model.hparams["score_thresh"], model.hparams["nms_thresh"], 500)
            answers[name] = [[as_detections(rows) for rows in streams] for streams in steps]
            predictions[name].add(answers[name], batch["video_infos"], batch["frame_is_labeled"])
            for ours, theirs in zip(answers["eager float32"], answers[name], strict=True):
                for wanted, found in zip(ours, theirs, strict=True):
                    counts[name] = [a + b for a, b in zip(counts[name], matched(wanted, found), strict=True)]
    maps = {name: predictions[name].measure().metrics["mean_ap"] for name in models}
    return [
        {"row": name, "map": maps[name], "lost": maps["eager float32"] - maps[name], "detections": all_, "matched": hit}
        for name, (all_, hit) in counts.items()
    ]


def main() -> None:
    parser = arguments(__doc__, rounds=20)
    parser.add_argument("--compiled", action="store_true", help="also the forms that take a minute to build")
    parser.add_argument("--checkpoint", help="trained detector whose mAP is measured, too")
    args = parse(parser)
    warnings.simplefilter("ignore")
    sizes, ssd = (((64, 96),), partial(vanilla, 2, 8)) if args.small else (SIZES, vanilla)
    rows = [row for size in sizes for row in measure(ssd, *size, args.rounds, args.compiled)]
    found = accuracy(args.checkpoint) if args.checkpoint else []
    for row in found:
        share = f"{row['matched']} of {row['detections']}"
        print(f"{row['row']:<32} mAP {row['map']:.4f} lost {row['lost']:.4f} boxes matched {share:>20}")
    print_rows("inference", rows, threads=args.threads, accuracy=found)


if __name__ == "__main__":
    main()
