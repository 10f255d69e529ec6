"""Evaluation of detections: COCO mAP by the event-camera protocol; `analysis/` computes further results.

Does not belong here: plots and text of an evaluation, which the package `evforge` makes.
"""
