"""Exported detectors: the kinds of file, writing, loading and checking them.

`jitting.py` and `jitting_test.py` are the front that the reference API names. Does not belong here: the use of an
exported file on recordings (`inference/`).
"""
