"""Label files of recordings, with one module per format. Boxes are in sensor pixels and recording time.

Does not belong here: training targets, which `data/targets.py` computes from labels.
"""

from detector.labels.boxes import (
    LabelFormat,
    TimeUnit,
    label_suffix,
    labels_path,
    load_labels,
    read_labels,
    recording_stem,
)
from detector.labels.npy import save_labels

__all__ = [
    "LabelFormat",
    "TimeUnit",
    "label_suffix",
    "labels_path",
    "load_labels",
    "read_labels",
    "recording_stem",
    "save_labels",
]
