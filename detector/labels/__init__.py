"""Label files: boxes of one recording in sensor pixels and recording time, one module per format.

Does not belong here: targets of the network, which `data/targets.py` makes from labels.
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
