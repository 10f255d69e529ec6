"""Synthetic recordings: moving objects (`scene`, `sprites`) recorded by a simulated event camera (`simulator`).

Does not belong here: file formats of recordings (`events/`).
"""

from detector.synthetic.recordings import CLASSES, make_recording, write_dataset

__all__ = ["CLASSES", "make_recording", "write_dataset"]
