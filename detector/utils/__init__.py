"""General tools: compiled loops, writing of files, remote files, HDF5 files, torch internals, box corners in numpy.

Does not belong here: anything that only one other package uses.
"""
