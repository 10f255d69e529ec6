"""Conversion of labels to targets of anchors, and of predictions to boxes.

Does not belong here: the anchors themselves (`anchors.py`) and box arithmetic (`box.py`).
"""
