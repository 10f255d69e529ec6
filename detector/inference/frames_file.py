"""Storage of the frames that a file of boxes covers.

They are stored separately, because a frame without boxes has no row in the file of boxes.
"""

import json
from pathlib import Path

from detector.events.frames import Frames
from detector.utils.atomic_write import atomic_write

__all__ = ["frames_path", "read_frames", "write_frames"]


def frames_path(path: str | Path) -> Path:
    """Return the path of the JSON file of frames for an NPY or CSV file of boxes, such as `boxes.npy.frames.json`."""
    return Path(f"{path}.frames.json")


def write_frames(path: str | Path, frames: Frames) -> None:
    """Write the frames of the NPY or CSV file `path` to the JSON file beside it, see `frames_path`."""
    with atomic_write(frames_path(path)) as part:
        part.write_text(json.dumps(frames._asdict()) + "\n")


def read_frames(path: str | Path) -> Frames | None:
    """Read the frames that a file of boxes covers.

    Args:
        path: NPY or CSV file of boxes, the JSON file of frames beside it, or a COCO JSON file, which stores the frames
            in `info`.

    Returns:
        The frames; None if they are not stored, as with files of other tools.

    Raises:
        FileNotFoundError: there is no such file.
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
