"""Names in a dataset folder: its splits, and the label files of its tensor files."""

__all__ = ["LABELS_END", "SPLITS"]

SPLITS = ("train", "val", "test")

LABELS_END = "_bbox.npy"
"""End of the name of a label file in a dataset."""
