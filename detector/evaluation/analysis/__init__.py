"""Results of an evaluation in addition to mAP: AP by properties of boxes, confusion, calibration, reaction time, ...

Does not belong here: anything that mAP itself depends on.
"""
