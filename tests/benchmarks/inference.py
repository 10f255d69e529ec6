"""Exported detectors against eager float32 and torchvision's detectors: milliseconds a frame, batch 1, one thread.

`python tests/benchmarks/inference.py [--threads N] [--rounds N] [--compiled] [--checkpoint FILE]`.
`Vanilla(2, 16, 256)` and every peer take frames of the same size and end with boxes after non-maximum suppression;
torchvision's are kept from resizing. The rounds of all forms of a size are interleaved in one process, each starting
with another form, and their medians compared: absolute figures depend on the machine, ratios carry over. `--compiled`
adds the forms that take a minute to build. With the checkpoint of a trained detector, each form's mAP on its test split
is set against that of the detector itself, and its boxes after suppression are matched with the detector's.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import retinanet_resnet50_fpn, ssdlite320_mobilenet_v3_large
from torchvision.ops import box_iou

from detector.agreement import CONFIDENT, NEAR_IOU
from detector.config import Config
from detector.evaluation import FramePredictions
from detector.export_form import METHODS
from detector.export_forms import EXPORT_FORMS, in_precision, load_form
from detector.jitting import INFO_NAME, SSD, export_ssd
from detector.lightning_model import LightningDetectionModel
from detector.single_stage_detector import SingleStageDetector

SIZES = ((240, 304), (360, 640))
SCORE, NMS = 0.4, 0.5
SCRIPTED = [
    (name, precision)
    for name in ("torchscript", "torchscript-frozen", "torchscript-cpu")
    for precision in ("float32", "bf16")
]
TARGETS = {("torchscript", "bf16"): 2.0, ("torchscript-cpu", "bf16"): 3.0}
"""Times the speed of eager float32 that are asked for: of TorchScript in bf16, and of the fastest form."""

Form = Callable[[Tensor], object]


def vanilla() -> SSD:
    torch.manual_seed(0)
    net = SingleStageDetector("Vanilla", 2, 3, 16, 256, "PSEE_ANCHORS")
    return SSD(net.to(memory_format=torch.contiguous_format))


def load(ssd: SSD, form: str, precision: str, height: int, width: int, params: dict[str, Any] | None = None) -> Any:
    """Export and open a form."""
    values = params or {**vars(Config().to_hparams()), "classes": ["a", "b", "c"], "label_map": {}}
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"height": height, "width": width}
        export_ssd(in_precision(ssd, precision), {**values, **sizes}, folder, NMS, SCORE, form=EXPORT_FORMS[form])
        return load_form(Path(folder), json.loads((Path(folder) / INFO_NAME).read_text()))


def forms(height: int, width: int, compiled: bool) -> Iterator[tuple[str, Form, float | None]]:
    """Names, calls and targets."""

    def detect(model: Any) -> Form:
        return lambda frame: model.detect(frame[None, None], SCORE, NMS)

    ssd = vanilla()
    yield "eager float32", detect(ssd), None
    yield "eager float32 channels_last", detect(vanilla().to(memory_format=torch.channels_last)), None
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

    from detector.export_steps import StepModule

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


def measure(height: int, width: int, rounds: int, compiled: bool) -> list[dict[str, Any]]:
    rows = [*forms(height, width, compiled), *peers(height, width)]
    frame = (torch.rand(2, height, width, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    seconds: dict[str, list[float]] = {name: [] for name, *_ in rows}
    with torch.no_grad():  # what torch.compile with constant weights asks for
        for number in range(rounds + 3):
            for name, form, _ in rows[number % len(rows) :] + rows[: number % len(rows)]:
                start = time.perf_counter()
                form(frame)
                if number >= 3:  # TorchScript and oneDNN settle in the first rounds
                    seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["eager float32"])
    found = []
    for name, _, target in rows:
        median = statistics.median(seconds[name])
        found.append({"row": name, "size": f"{width}x{height}", "ms": 1e3 * median, "ratio": base / median})
        found[-1]["target"] = target
    return found


def as_detections(rows: Tensor) -> dict[str, Tensor]:
    corners = torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:4]], dim=1)
    return {"boxes": corners, "scores": rows[:, 4], "labels": rows[:, 5].long()}


def matched(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> tuple[int, int]:
    """Detections of the first, and how many of them the second has."""
    sure = wanted["scores"] >= CONFIDENT
    same = wanted["labels"][sure, None] == found["labels"]
    near = (box_iou(wanted["boxes"][sure], found["boxes"]) >= NEAR_IOU) & same
    return int(sure.sum()), int(near.any(dim=1).sum()) if near.numel() else 0


def accuracy(checkpoint: str) -> list[dict[str, Any]]:
    """mAP of every TorchScript form on the test split."""
    model = LightningDetectionModel.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    ssd = SSD(model.detector, model.hparams["anchor_list"])
    params = {**model.hparams, "classes": model.classes, "label_map": model.label_map}
    others = {f"{name} {kind}": load(ssd, name, kind, model.height, model.width, params) for name, kind in SCRIPTED}
    others["torchscript half"] = load(ssd, "torchscript", "half", model.height, model.width, params)
    models = {"eager float32": ssd, **others}
    predictions: dict[str, FramePredictions] = {name: model._new_predictions() for name in models}
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each form")
    parser.add_argument("--compiled", action="store_true", help="also the forms that take a minute to build")
    parser.add_argument("--checkpoint", help="trained detector whose mAP is measured, too")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {"benchmark": "inference", "threads": args.threads, "rows": []}
    print(f"{'':<32} {'size':<9} {'ms':>7} {'ratio':>6} {'target':>6}")
    for height, width in SIZES:
        for row in measure(height, width, args.rounds, args.compiled):
            results["rows"].append(row)
            target = f"{row['target']:6.1f}" if row["target"] else ""
            print(f"{row['row']:<32} {row['size']:<9} {row['ms']:7.1f} {row['ratio']:6.2f} {target}", flush=True)
    if args.checkpoint:
        results["accuracy"] = accuracy(args.checkpoint)
        print(f"{'':<32} {'mAP':>7} {'lost':>8} {'boxes matched':>20}")
        for row in results["accuracy"]:
            share = f"{row['matched']} of {row['detections']}"
            print(f"{row['row']:<32} {row['map']:7.4f} {row['lost']:8.4f} {share:>20}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
