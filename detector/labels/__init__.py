"""Label files in and out, one module per format.

Does not belong here: targets of the network, which `data/targets.py` makes from labels.
"""

from detector.labels.npy import TimeUnit, load_labels, save_labels

__all__ = ["TimeUnit", "load_labels", "save_labels"]
