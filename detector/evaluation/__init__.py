"""Measuring detections: COCO mAP by the event-camera protocol; `analysis/` looks further into the same detections.

Does not belong here: figures and text of an evaluation, which the platform makes.
"""
