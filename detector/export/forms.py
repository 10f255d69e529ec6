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
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.export_form import METHODS, PRECISIONS, TORCHSCRIPT, ExportForm, save_torchscript
from detector.export_layers import fold_batch_norms, pack_convolutions, quantize_levels
from detector.export_steps import StepModule, StepRunner
from detector.jitting import INFO_NAME, SSD, export_lightning_model

__all__ = ["EXPORT_FORMS", "ONNX_PACKAGES", "export_model", "in_precision", "load_form"]

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What writes an ONNX file, and runs it for the check."""


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


def _write_frozen(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.* is deprecated.*")
        scripted = torch.jit.script(copy.deepcopy(ssd).to(memory_format=torch.channels_last))
        save_torchscript(torch.jit.freeze(scripted, [*METHODS, "in_channels"]), path)
    return {}


def _write_packed(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    packed = copy.deepcopy(ssd)
    fold_batch_norms(packed)
    pack_convolutions(packed.to(memory_format=torch.channels_last))
    save_torchscript(packed, path)
    return {}


def _write_quantized(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    quantized = copy.deepcopy(ssd)
    assert isinstance(quantized, SSD)
    quantize_levels(quantized.feature_extractor.levels)
    return _write_packed(quantized, path, height, width)


def _trace(ssd: nn.Module, height: int, width: int) -> tuple[Any, dict[str, Any]]:
    """The exported program of a time step, and what its callers must know."""
    assert isinstance(ssd, SSD)
    step = StepModule(ssd, height, width).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        program = torch.export.export(step, step.example)
    return program, {"state_shapes": [list(s.shape) for s in step.example[1]]}


def _write_program(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    program, found = _trace(ssd, height, width)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found")  # of the empty ones that tell precisions
        torch.export.save(program, path)
    return found


def _load_program(path: Path, info: Mapping[str, Any]) -> StepRunner:
    return StepRunner(torch.export.load(path).module(), info)


def _write_compiled(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import InvalidCxxCompiler

    program, found = _trace(ssd, height, width)
    try:
        aoti_compile_and_package(program, package_path=str(path), inductor_configs={"freezing": True})
    except InvalidCxxCompiler:
        raise ValueError("form: aotinductor needs a C++ compiler, allowed: install g++, or another form") from None
    return found


def _load_compiled(path: Path, info: Mapping[str, Any]) -> StepRunner:
    from torch._inductor import aoti_load_package

    return StepRunner(aoti_load_package(str(path)), info)


def _write_onnx(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f"form: onnx needs {', '.join(missing)}, allowed: pip install {' '.join(missing)}")
    program, found = _trace(ssd, height, width)
    states = range(len(found["state_shapes"]))
    torch.onnx.export(
        program,
        (),
        str(path),
        input_names=["frame", *(f"state_{i}" for i in states)],
        output_names=["boxes", "scores", *(f"next_state_{i}" for i in states)],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return found


def _load_onnx(path: Path, info: Mapping[str, Any]) -> StepRunner:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        values = dict(zip(names, (each.numpy() for each in (x, *state)), strict=True))
        boxes, scores, *after = (torch.from_numpy(each) for each in session.run(None, values))
        return boxes, scores, after

    return StepRunner(step, info)


EXPORT_FORMS = {
    form.name: form
    for form in (
        TORCHSCRIPT,
        ExportForm("torchscript-frozen", TORCHSCRIPT.file, tuple(PRECISIONS), _write_frozen, TORCHSCRIPT.load),
        ExportForm("torchscript-cpu", TORCHSCRIPT.file, ("float32", "bf16"), _write_packed, TORCHSCRIPT.load),
        ExportForm("torchscript-int8", TORCHSCRIPT.file, ("float32", "bf16"), _write_quantized, TORCHSCRIPT.load, True),
        ExportForm("torch-export", "model.pt2", tuple(PRECISIONS), _write_program, _load_program),
        ExportForm("aotinductor", "model.pt2", ("float32", "bf16"), _write_compiled, _load_compiled),
        ExportForm("onnx", "model.onnx", ("float32",), _write_onnx, _load_onnx),
    )
}
