"""Results of an evaluation in addition to mAP: slices, confusion, calibration, reaction time, event rates, state leaks.

Does not belong here: anything that mAP itself depends on.
"""
