"""The list of the frames that a detector has processed, stored together with its detections.

A frame without detections has no row in a file of detections. Therefore the start of the first frame, the duration of a
frame and the number of frames (`Frames`) are stored separately: beside an NPY or CSV file in a JSON file, and in a COCO
JSON file in the entry `info`.
"""

import json
from pathlib import Path

from detector.events.frames import Frames
from detector.utils.atomic_write import atomic_write

__all__ = ["frames_path", "read_frames", "write_frames"]


def frames_path(path: str | Path) -> Path:
    """Return the path of the JSON file that stores the frames of an NPY or CSV file: its path plus `.frames.json`."""
    return Path(f"{path}.frames.json")


def write_frames(path: str | Path, frames: Frames) -> None:
    """Store the frames from which an NPY or CSV file of detections was made, in the JSON file `frames_path(path)`."""
    with atomic_write(frames_path(path)) as part:
        part.write_text(json.dumps(frames._asdict()) + "\n")


def read_frames(path: str | Path) -> Frames | None:
    """Read the frames from which a file of detections was made.

    Args:
        path: NPY or CSV file of detections, the JSON file of frames beside it, or a COCO JSON file.

    Returns:
        The frames; None if they are not stored, as with files of other tools.

    Raises:
        FileNotFoundError: `path` does not exist.
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
        if coco:  # other tools write a list, or an `info` with other content
            stored = stored.get("info") if isinstance(stored, dict) else None
            if not isinstance(stored, dict) or "num_frames" not in stored:
                return None
        return Frames.of(stored)
    except ValueError as error:
        raise ValueError(f"{source}: not the frames of a file of boxes: {error}") from None
