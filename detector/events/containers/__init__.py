"""Readers of recordings in general containers: HDF5 files, arrays, CSV and NPY tables.

Does not belong here: encodings of cameras.
"""
