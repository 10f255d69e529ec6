"""Datasets: batches of tensor files, their labels as targets, and the fingerprint of a split.

`builder/` makes datasets from recordings, `check/` finds faults in them. Does not belong here: reading recordings
(`events/`) and label files (`labels/`).
"""
