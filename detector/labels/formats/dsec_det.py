"""Label files `tracks.npy` of DSEC-Detection (https://github.com/uzh-rpg/dsec-det).

The file contains one numpy array of structured boxes with the fields t, x, y, h, w, class_id, class_confidence and
track_id. Times are in microseconds, as in the images of DSEC; the events of DSEC start at the time `t_offset`.
"""

from pathlib import Path

from detector.labels.formats.npy import is_dsec, npy_fields, read_npy
from detector.labels.label_format import LabelFile, LabelFormat

__all__ = ["DSEC_DET"]

CLASSES = ("pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train")
"""Class names in the order of their ids, from `src/dsec_det/label.py` of uzh-rpg/dsec-det."""


def _read(path: Path) -> LabelFile:
    return LabelFile(read_npy(path), dict(enumerate(CLASSES)), time_unit="us")


def _matches(path: Path) -> bool:
    return is_dsec(path, npy_fields(path))


DSEC_DET = LabelFormat(
    "_tracks.npy",
    _read,
    ("tracks.npy", "object_detections/left/tracks.npy"),
    _matches,
)
"""Labels of DSEC-Detection. For the folders of the dataset, the layout `dsec_det` states the label file."""
