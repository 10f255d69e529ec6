"""Compare the boxes of a file with its events: time offsets, mirrored or swapped axes, wrong scales, motionless boxes.

Does not belong here: checks of labels without events (`label_file`), and of events without labels (`event_faults`).
"""
