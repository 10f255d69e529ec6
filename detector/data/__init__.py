"""Datasets: load batches of frames and training targets from tensor files, and compute the fingerprint of a split.

`builder/` makes datasets from recordings, and `check/` finds faults in datasets. Does not belong here: reading
recordings (`events/`) and label files (`labels/`).
"""
