"""Coverage of labelled boxes by anchors, measured before training, and anchors fitted to boxes.

Does not belong here: assignment in training (`matching/`).
"""
