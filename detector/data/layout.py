"""Names in a dataset folder: its splits, and the label file of each recording."""

from pathlib import Path
from typing import TypeVar

from detector.utils.remote import Address, Place

__all__ = ["LABELS_END", "SPLITS", "labels_beside", "recording_stem"]

File = TypeVar("File", Path, Address)

SPLITS = ("train", "val", "test")

LABELS_END = "_bbox.npy"
"""End of the name of a label file."""


def recording_stem(recording: Place) -> str:
    """Name of a recording that its label file and its tensor files start with: `X` for `X.raw`, `X.dat`, `X_td.dat`."""
    return recording.stem.removesuffix("_td")


def labels_beside(recording: File) -> File:
    """Path of the label file of a recording: `X_bbox.npy` in the same folder."""
    return recording.parent / f"{recording_stem(recording)}{LABELS_END}"
