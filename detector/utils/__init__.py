"""General tools: compiled loops, atomic, remote and HDF5 files, internal functions of torch, corners of boxes in numpy.

Does not belong here: anything that only one other package uses.
"""
