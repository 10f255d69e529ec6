"""An exported detector as it lies on disk: a model file and the JSON that says how to feed it."""

import json
from pathlib import Path
from typing import Any

import torch

from detector.export.form import INFO_NAME, TORCHSCRIPT, load_torchscript
from detector.utils.checksum import sha256_of

__all__ = ["INFO_NAME", "find_exported", "load_exported"]

ANY_DEVICE = (TORCHSCRIPT.name, "torchscript-frozen")
"""Forms of export that a GPU runs; the others are made for the CPU."""


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
    model = folder / info.get("file", TORCHSCRIPT.file) if path.is_dir() else path
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
        the model without memory, with `detect` and `reset_all` as in `detector.jitting.SSD`; the content of the JSON
        file; the device.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: they do not belong together, or one is broken.
    """
    model, info = find_exported(path)
    form = info.get("form", TORCHSCRIPT.name)
    if device is None:
        device = "cuda" if form in ANY_DEVICE and torch.cuda.is_available() else "cpu"
    try:
        loaded = _load(model, info, form, device)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{model}: cannot be loaded: {reason}") from None
    loaded.reset_all()
    return loaded, info, torch.device(device)


def _load(model: Path, info: dict[str, Any], form: str, device: str) -> Any:
    if form.startswith(TORCHSCRIPT.name):
        return load_torchscript(model, device)
    from detector.export.forms import load_form  # imports torchvision, which takes seconds

    return load_form(model.parent, info)


def _read_info(folder: Path, asked: Path) -> dict[str, Any]:
    path = folder / INFO_NAME
    if not path.is_file():
        allowed = f"a model file with {INFO_NAME} beside it, or their folder; `evforge export` writes them"
        raise FileNotFoundError(f"{asked}: no exported model, allowed: {allowed}")
    try:
        info = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: no JSON: {error}") from None
    if not isinstance(info, dict):
        raise ValueError(f"{path}: holds {type(info).__name__}, allowed: a JSON object, as `evforge export` writes it")
    return info
