"""General tools: compiled loops, writing of files, remote files, HDF5 files, torch internals, box corners in numpy.

Does not belong here: a function that is used in only one package. It belongs in that package.
"""
