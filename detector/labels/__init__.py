"""Labels of recordings: finding, reading and writing label files of several formats. The formats are in `formats/`.

Labels that were read have boxes in sensor pixels and times of the recording. Does not belong here: training targets,
which `data/targets.py` computes from labels.
"""

from detector.config.label_timing import LabelTiming, TimeUnit
from detector.labels.find import FoundLabels, detect_format, find_labels, labels_path, recording_stem
from detector.labels.formats.npy import save_labels
from detector.labels.label_format import LabelFile, LabelFormat, find_format
from detector.labels.load import load_labels, read_labels, recording_labels

__all__ = [
    "FoundLabels",
    "LabelFile",
    "LabelFormat",
    "LabelTiming",
    "TimeUnit",
    "detect_format",
    "find_format",
    "find_labels",
    "labels_path",
    "load_labels",
    "read_labels",
    "recording_labels",
    "recording_stem",
    "save_labels",
]
