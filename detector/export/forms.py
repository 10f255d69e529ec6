"""The kinds of file that a trained detector can be exported to, by name.

Four are TorchScript (`model.ptjit`), with its memory inside, for any T, B, H and W:

- `torchscript`: the plain form, for any device.
- `torchscript-frozen`: weights made constants of the graph, which is optimised around them; `half()` no longer
  works, and the device is chosen by `map_location` when it is loaded.
- `torchscript-cpu`: for CPUs alone; weights in oneDNN's own order from the first call on.
- `torchscript-int8`: the same, with the convolutions of the recurrent levels in bytes, the rest in float32 or bf16; for
  x86 with AVX-512 VNNI, where it is the fastest.

Three take one time step of one stream at the trained size, and the state as an argument (`StepModule`), because they
know no changing attributes: the detector with its memory inside cannot be exported to them.

- `torch-export`: `model.pt2`, a graph for `torch.export.load` and what builds on it.
- `aotinductor`: `model.pt2`, machine code for processors like the one it was exported on; needs a C++ compiler.
- `onnx`: `model.onnx`; needs the packages `ONNX_PACKAGES`.

What `torch.jit.optimize_for_inference` makes is no form: its weights cannot be saved.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from detector.export.backends.aotinductor import load_compiled, write_compiled
from detector.export.backends.cpu_layers import fold_batch_norms
from detector.export.backends.onnx import load_onnx, write_onnx
from detector.export.backends.torch_export import load_program, write_program
from detector.export.backends.torchscript import write_frozen, write_packed, write_quantized
from detector.export.form import INFO_NAME, PRECISIONS, TORCHSCRIPT, ExportForm
from detector.export.ssd import SSD
from detector.export.write import export_lightning_model

__all__ = ["EXPORT_FORMS", "export_model", "in_precision", "load_form"]


def export_model(
    lightning_model: Any,
    out_directory: str | Path,
    nms_thresh: float,
    score_thresh: float,
    form: str = "torchscript",
    precision: str = "float32",
) -> Path:
    """Write a trained `LightningDetectionModel` in any form.

    Args:
        lightning_model: the trained model.
        out_directory: folder to write to, made if missing.
        nms_thresh: suppression threshold that users of the file should take.
        score_thresh: score threshold that users of the file should take.
        form: key of `EXPORT_FORMS`.
        precision: key of `PRECISIONS`.

    Returns:
        The model file; `info_ssd_jit.json` lies beside it.

    Raises:
        ValueError: the form is unknown, does not take the precision, or needs what is not installed.
    """
    if form not in EXPORT_FORMS:
        raise ValueError(f"form: got {form!r}, allowed: {', '.join(EXPORT_FORMS)}")
    allowed = EXPORT_FORMS[form].precisions
    if precision not in allowed:
        raise ValueError(f"precision: got {precision!r}, allowed for {form}: {', '.join(allowed)}")
    return export_lightning_model(
        lightning_model,
        out_directory,
        nms_thresh,
        score_thresh,
        form=EXPORT_FORMS[form],
        prepare=lambda ssd: in_precision(ssd, precision),
    )


def in_precision(ssd: SSD, precision: str) -> SSD:
    """The detector in another precision; itself in float32.

    In bf16 the head stays in float32: it takes little time, and the order of scores needs more than eight bits.
    """
    if precision == "float32":
        return ssd
    ssd = copy.deepcopy(ssd)
    fold_batch_norms(ssd)
    ssd.to(PRECISIONS[precision]).to(memory_format=torch.channels_last)
    if precision == "bf16":
        ssd.rpn.float()
        ssd.head_precision = ssd.head_precision.float()
    return ssd


def load_form(folder: Path, info: Mapping[str, Any]) -> Any:
    """Open an exported model of any form.

    Args:
        folder: where it lies.
        info: content of the `info_ssd_jit.json` there.

    Returns:
        An object with `forward`, `detect`, `reset` and `reset_all`, see `detector.jitting.SSD`.

    Raises:
        ValueError: the form is unknown.
    """
    name = info.get("form", TORCHSCRIPT.name)
    if name not in EXPORT_FORMS:
        raise ValueError(f"{folder / INFO_NAME}: form is {name!r}, allowed: {', '.join(EXPORT_FORMS)}")
    form = EXPORT_FORMS[name]
    return form.load(folder / form.file, info)


EXPORT_FORMS = {
    form.name: form
    for form in (
        TORCHSCRIPT,
        ExportForm("torchscript-frozen", TORCHSCRIPT.file, tuple(PRECISIONS), write_frozen, TORCHSCRIPT.load),
        ExportForm("torchscript-cpu", TORCHSCRIPT.file, ("float32", "bf16"), write_packed, TORCHSCRIPT.load),
        ExportForm("torchscript-int8", TORCHSCRIPT.file, ("float32", "bf16"), write_quantized, TORCHSCRIPT.load, True),
        ExportForm("torch-export", "model.pt2", tuple(PRECISIONS), write_program, load_program),
        ExportForm("aotinductor", "model.pt2", ("float32", "bf16"), write_compiled, load_compiled),
        ExportForm("onnx", "model.onnx", ("float32",), write_onnx, load_onnx),
    )
}
