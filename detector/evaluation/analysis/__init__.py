"""Results of an evaluation beside mAP: slices, confusion, calibration, reaction time, event rates, state leaks.

Does not belong here: anything that mAP itself depends on.
"""
