"""Files of detections, written frame by frame: NPY, CSV, COCO JSON, and videos with boxes drawn on the events.

A file appears only when it is complete. At most one frame is in memory at a time. With a file of boxes, the list of the
processed frames is stored, because frames without boxes have no rows (`detector.inference.frames_file`).
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch

from detector.events import BBOX_dtype
from detector.events.frames import Frames
from detector.inference.frames_file import frames_path, write_frames
from detector.utils.atomic_write import atomic_write
from detector.utils.corners import to_corners

__all__ = ["BOX_FILES", "AddFrame", "Scene", "video_file"]

AddFrame = Callable[[int, np.ndarray, np.ndarray], None]
"""Function that appends a frame, with the fields of `Frame` as arguments. Only videos use the histogram."""

CSV_COLUMNS = ("t", "x", "y", "w", "h", "class_id", "class_confidence")


class Scene(NamedTuple):
    """Properties that are the same for all frames of a file.

    Args:
        classes: dict from the class ids of the label map to class names
        delta_t: duration of a frame in microseconds
        height: height of the sensor in pixels
        width: width of the sensor in pixels
        name: name of the recording, shown in videos; may be empty
    """

    classes: Mapping[int, str]
    delta_t: int
    height: int
    width: int
    name: str = ""


class _FrameCounter:
    """Counts the frames that are appended to a file.

    Attributes:
        frames: start, duration and number of the frames that were appended so far.
    """

    def __init__(self, delta_t: int) -> None:
        self.frames = Frames(0, delta_t, 0)

    def add(self, end: int) -> None:
        first_t, delta_t, count = self.frames
        self.frames = Frames(first_t if count else end - delta_t, delta_t, count + 1)


@contextmanager
def _rows_file(path: Path, scene: Scene, mode: str, newline: str | None = None) -> Iterator[tuple[IO, _FrameCounter]]:
    """Open an NPY or CSV file for writing. When it is complete, write the JSON file of its frames (`frames_path`).

    Yields:
        The open file, and a counter. The caller must call `counter.add(end)` for each frame.
    """
    counter = _FrameCounter(scene.delta_t)
    with atomic_write(path) as part, part.open(mode, newline=newline) as file:
        yield file, counter
        frames_path(path).unlink(missing_ok=True)  # new boxes must never be read with the frames of an earlier file
    write_frames(path, counter.frames)


@contextmanager
def npy_file(path: Path, scene: Scene) -> Iterator[AddFrame]:
    """Write boxes to an NPY file that `detector.labels.load_labels` can read.

    Yields:
        Function `add(end, boxes, histogram)` that appends a frame. `end` is the end of the frame in microseconds.
    """
    count = 0
    with _rows_file(path, scene, "w+b") as (file, counter):

        def add(end: int, boxes: np.ndarray, histogram: np.ndarray) -> None:
            nonlocal count
            counter.add(end)
            file.write(boxes.tobytes())
            count += boxes.size

        _write_npy_header(file, 0)
        begin = file.tell()
        yield add
        file.seek(0)
        _write_npy_header(file, count)
        assert file.tell() == begin  # numpy reserves space for the digits of the count


@contextmanager
def csv_file(path: Path, scene: Scene) -> Iterator[AddFrame]:
    """Write boxes to a CSV file, one line per box: time, x, y, w, h, class id, score, class name.

    Yields:
        Function `add(end, boxes, histogram)` that appends a frame. `end` is the end of the frame in microseconds.
    """
    with _rows_file(path, scene, "w", newline="") as (file, counter):
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*CSV_COLUMNS, "class_name"])

        def add(end: int, boxes: np.ndarray, histogram: np.ndarray) -> None:
            counter.add(end)
            rows = zip(*(boxes[name].tolist() for name in CSV_COLUMNS), strict=True)
            lines.writerows([*row, scene.classes[row[5]]] for row in rows)

        yield add


@contextmanager
def coco_file(path: Path, scene: Scene) -> Iterator[AddFrame]:
    """Write a COCO dataset: images are frames with their end time `t`, annotations are boxes with a `score`.

    Yields:
        Function `add(end, boxes, histogram)` that appends a frame. `end` is the end of the frame in microseconds.
    """
    categories = [{"id": key, "name": name} for key, name in scene.classes.items()]
    size = {"width": scene.width, "height": scene.height}
    count, counter = 0, _FrameCounter(scene.delta_t)
    with atomic_write(path) as part, part.open("w") as file:
        file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": [')

        def add(end: int, boxes: np.ndarray, histogram: np.ndarray) -> None:
            nonlocal count
            counter.add(end)
            for box in boxes:
                count += 1
                annotation = _annotation(count, counter.frames.num_frames, box)
                file.write(("\n" if count == 1 else ",\n") + json.dumps(annotation))

        yield add
        frames = counter.frames
        file.write(f'\n],\n"info": {json.dumps(frames._asdict())},\n"images": [')
        for number in range(frames.num_frames):
            image = {"id": number + 1, "t": frames.end_of(number), **size}
            file.write(("\n" if number == 0 else ",\n") + json.dumps(image))
        file.write("\n]}\n")


@contextmanager
def video_file(path: Path, scene: Scene) -> Iterator[AddFrame]:
    """Write a video of the events with boxes, classes, scores, times and a legend, at the speed of the recording.

    Yields:
        Function `add(end, boxes, histogram)` that appends a frame. `end` is the end of the frame in microseconds.
    """
    from detector.visualization.drawing import draw_detections, frame_caption
    from detector.visualization.video import VIDEOS  # drawing needs torchvision, which takes seconds to import

    ids, names = list(scene.classes), list(scene.classes.values())
    with VIDEOS[path.suffix.lower()](path, scene.delta_t) as append:

        def add(end: int, boxes: np.ndarray, histogram: np.ndarray) -> None:
            detections = {
                "boxes": torch.from_numpy(to_corners(boxes, np.float32) * np.float32(histogram.shape[2] / scene.width)),
                "scores": torch.tensor(boxes["class_confidence"]),
                "labels": torch.tensor([ids.index(key) + 1 for key in boxes["class_id"]]),
            }
            caption = frame_caption(scene.name, end)
            append(draw_detections(histogram, detections, names, score_thresh=0.0, caption=caption))

        yield add


BOX_FILES: dict[str, Callable[[Path, Scene], AbstractContextManager[AddFrame]]] = {
    ".npy": npy_file,
    ".csv": csv_file,
    ".json": coco_file,
    ".gif": video_file,
    ".mp4": video_file,
}
"""Writers by suffix of the file name."""


def _write_npy_header(file: IO[bytes], count: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(BBOX_dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)


def _annotation(number: int, image: int, box: np.void) -> dict[str, object]:
    x, y, w, h = (float(box[name]) for name in "xywh")
    return {
        "id": number,
        "image_id": image,
        "category_id": int(box["class_id"]),
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
        "score": float(box["class_confidence"]),
    }
