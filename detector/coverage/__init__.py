"""Measure, before training, how well anchors cover labelled boxes, and fit anchors to boxes.

Does not belong here: assignment of anchors to boxes in training (`matching/`).
"""
