"""Names in a dataset folder: the folders of the splits, and the end of the names of label files."""

__all__ = ["LABELS_END", "SPLITS"]

SPLITS = ("train", "val", "test")

LABELS_END = "_bbox.npy"
"""End of the names of label files in a dataset folder."""
