"""An exported detector on disk: a model file, and the JSON that states how to feed it."""

import json
from pathlib import Path
from typing import Any

import torch

from detector.config.extensions import EXPORT_FORMS
from detector.export.form import INFO_NAME, MODEL_NAME
from detector.utils.checksum import sha256_of

__all__ = ["find_exported", "load_exported"]


def find_exported(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """The two files of an exported detector, if they belong together.

    Args:
        path: the model file or its folder.

    Returns:
        the model file; the content of the JSON file.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: they do not belong together, or the JSON file is broken.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    info = _read_info(folder, path)
    model = folder / info.get("file", MODEL_NAME) if path.is_dir() else path
    if not model.is_file():
        raise FileNotFoundError(f"{model}: no such model file")
    digest = sha256_of(model)
    if info.get("sha256") != digest:
        raise ValueError(f"{model}: has sha256 {digest}, {INFO_NAME} beside it: {info.get('sha256')}, export it again")
    return model, info


def load_exported(path: str | Path, device: str | None = None) -> tuple[Any, dict[str, Any], torch.device]:
    """Load an exported detector, if its two files belong together.

    Args:
        path: the model file or its folder.
        device: where it will run; the first GPU if None, or the CPU if there is none or the file is for CPUs.

    Returns:
        the model with a clear state, with `forward`, `detect`, `reset` and `reset_all` as in `detector.jitting.SSD`;
        the content of the JSON file; the device.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: they do not belong together, or one is broken.
    """
    model, info = find_exported(path)
    name = info.get("form", "torchscript")
    try:
        form = EXPORT_FORMS[name]
        form.check_processor(name, info.get("precision", "float32"))
    except ValueError as error:
        raise ValueError(f"{model.with_name(INFO_NAME)}: {error}") from None
    if device is None:
        device = "cuda" if form.any_device and torch.cuda.is_available() else "cpu"
    try:
        loaded = form.load(model, info, device)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{model}: cannot be loaded: {reason}") from None
    loaded.reset_all()
    return loaded, info, torch.device(device)


def _read_info(folder: Path, asked: Path) -> dict[str, Any]:
    path = folder / INFO_NAME
    if not path.is_file():
        allowed = f"a model file with {INFO_NAME} beside it, or their folder; `evforge export` writes them"
        raise FileNotFoundError(f"{asked}: no exported model, allowed: {allowed}")
    try:
        info = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(info, dict):
        raise ValueError(f"{path}: holds {type(info).__name__}, allowed: a JSON object, as `evforge export` writes it")
    return info
