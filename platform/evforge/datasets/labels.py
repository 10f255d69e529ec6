"""`evforge labels convert`: converts label files between formats."""

import json
from pathlib import Path

from detector.config.groups import DataConfig
from detector.config.label_timing import LabelTiming
from detector.data.builder.plan import open_recording
from detector.data.label_map import label_map_path, read_label_map
from detector.labels.convert import Converted, convert_labels

__all__ = ["convert"]


def convert(
    source: str,
    target: str,
    data: DataConfig,
    *,
    to: str | None = None,
    recording: str | None = None,
    label_map: dict[int, str] | None = None,
    sensor: tuple[int | None, int | None] = (None, None),
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    overwrite: bool = False,
) -> Converted:
    """Convert labels to another format, and print what was written.

    Args:
        source: label file or folder.
        target: label file or folder to write.
        data: formats of the labels and of the recording.
        to: format to write; by default found from the name of `target`.
        recording: the recording that the labels belong to; needed if the labels are relative to the image.
        label_map: class names by id; if None, the names in `source`, or the label map beside it.
        sensor: height and width of the sensor in pixels, for recordings that do not state them.
        timing: how the times of the labels are determined.
        overwrite: whether existing files are replaced. Folders are not replaced.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a format is unknown or cannot be written, or the labels are not valid, or the target
            exists.
    """
    reader = None if recording is None else open_recording(Path(recording), sensor, data)
    map_path = label_map_path(Path(source))
    names = read_label_map(map_path) if label_map is None and map_path is not None else label_map
    try:
        done = convert_labels(
            source,
            target,
            to,
            source_format=data.label_format,
            recording=reader,
            timing=timing,
            names=names,
            overwrite=overwrite,
        )
    finally:
        if reader is not None:
            reader.close()
    for note in done.notes:
        print(note)
    print(f"written: {target}, {done.boxes:,} boxes at {done.times:,} times, classes: {json.dumps(done.names)}")
    return done
