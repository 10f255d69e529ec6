"""From labels to targets of anchors, and from predictions to boxes: assignment, encoding, decoding, suppression.

Does not belong here: the anchors themselves (`anchors.py`) and box arithmetic (`box.py`).
"""
