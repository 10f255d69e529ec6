"""How well anchors cover labelled boxes before training, and anchors fitted to boxes.

Does not belong here: assignment in training (`matching/`).
"""
