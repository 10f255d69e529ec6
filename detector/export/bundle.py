"""An exported detector on disk: a model file, and a JSON file that describes its inputs and outputs."""

import json
from pathlib import Path
from typing import Any

import torch

from detector.config.extensions import EXPORT_FORMS
from detector.export.form import INFO_NAME, MODEL_NAME
from detector.utils.checksum import sha256_of

__all__ = ["find_exported", "load_exported"]


def find_exported(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Find the two files of an exported detector, and check that they belong together (by the SHA-256 of the model).

    Args:
        path: the model file or its folder.

    Returns:
        The path of the model file, and the content of the JSON file as a dict.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the files do not belong together, or the JSON file is invalid.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    described = folder / INFO_NAME
    if not described.is_file():
        allowed = f"a model file with {INFO_NAME} beside it, or their folder; `evforge export` writes them"
        raise FileNotFoundError(f"{path}: no exported model, allowed: {allowed}")
    try:
        info = json.loads(described.read_text())
    except ValueError as error:
        raise ValueError(f"{described}: not JSON: {error}") from None
    if not isinstance(info, dict):
        raise ValueError(f"{described}: got {type(info).__name__}, allowed: a JSON object, written by `evforge export`")
    model = folder / info.get("file", MODEL_NAME) if path.is_dir() else path
    if not model.is_file():
        raise FileNotFoundError(f"{model}: no such model file")
    digest = sha256_of(model)
    if info.get("sha256") != digest:
        expected = f"{info.get('sha256')} as in {INFO_NAME}; export the model again"
        raise ValueError(f"{model}: sha256 is {digest}, allowed: {expected}")
    return model, info


def load_exported(path: str | Path, device: str | None = None) -> tuple[Any, dict[str, Any], torch.device]:
    """Load an exported detector, and check that its two files belong together.

    Args:
        path: the model file or its folder.
        device: device to run on. If None, the first GPU; the CPU if there is no GPU or the file only runs on CPUs.

    Returns:
        The model, the content of the JSON file as a dict, and the device. The model has the methods `forward`,
        `detect`, `reset` and `reset_all` of `detector.jitting.SSD`, and its recurrent state is clear.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the files do not belong together, a file is invalid, or this processor cannot run the model.
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
    except Exception as error:  # a form from another package may raise any error
        reason = (str(error).strip().splitlines() or [""])[0]
        reason = reason if isinstance(error, RuntimeError) and reason else f"{type(error).__name__}: {reason}"
        raise ValueError(f"{model}: cannot be loaded: {reason}") from None
    loaded.reset_all()
    return loaded, info, torch.device(device)
