"""Exported detectors: the forms of files, and their writing, loading and checks.

`jitting.py` and `jitting_test.py` re-export the names of the reference API. Does not belong here: running an exported
file on recordings (`inference/`).
"""
