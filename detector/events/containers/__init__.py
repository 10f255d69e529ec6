"""Recordings in general containers: HDF5 files, CSV and NPY tables.

Does not belong here: encodings of a camera's own words.
"""
