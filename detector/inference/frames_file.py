"""The frames that a file of boxes covers, stored with it: a frame without boxes has no row in the file."""

import json
from pathlib import Path

from detector.events.frames import Frames
from detector.utils.atomic_write import atomic_write

__all__ = ["frames_path", "read_frames", "write_frames"]


def frames_path(path: str | Path) -> Path:
    """Path of the JSON file beside an NPY or CSV file of boxes: `boxes.npy.frames.json`."""
    return Path(f"{path}.frames.json")


def write_frames(path: str | Path, frames: Frames) -> None:
    """Write the frames of an NPY or CSV file of boxes to the JSON file beside it."""
    with atomic_write(frames_path(path)) as part:
        part.write_text(json.dumps(frames._asdict()) + "\n")


def read_frames(path: str | Path) -> Frames | None:
    """Read the frames that a file of boxes covers; None if they are not stored, as with files of other tools.

    Args:
        path: NPY or CSV file of boxes or the JSON beside it; or COCO JSON, whose `info` holds them and
            `images` one entry per frame.

    Raises:
        FileNotFoundError: there is no such file of boxes.
        ValueError: the stored values do not describe frames.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of boxes")
    sidecar = path.name.endswith(".frames.json")
    coco = path.suffix.lower() == ".json" and not sidecar
    source = path if coco or sidecar else frames_path(path)
    if not source.is_file():
        return None
    try:
        stored = json.loads(source.read_text())
        if coco:  # COCO results are a list; `info` in files of other tools may hold anything
            stored = stored.get("info") if isinstance(stored, dict) else None
            if not isinstance(stored, dict) or "num_frames" not in stored:
                return None
        return Frames.of(stored)
    except ValueError as error:
        raise ValueError(f"{source}: not the frames of a file of boxes: {error}") from None
