"""Targets of anchors from labels, and boxes from predictions: assignment, encoding, decoding, suppression.

Does not belong here: the anchors themselves (`anchors.py`) and box arithmetic (`box.py`).
"""
