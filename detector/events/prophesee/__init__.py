"""Prophesee's encodings: DAT, EVT2, EVT2.1, EVT3, and the ECF compression of HDF5 files.

Does not belong here: formats of other manufacturers or libraries.
"""
