"""Exported detectors: the forms of exported files, and the functions that write, load and check such files.

`jitting.py` and `jitting_test.py` re-export the names of the reference API. Does not belong here: running an exported
file on recordings (`inference/`).
"""
