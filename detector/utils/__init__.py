"""Tools without knowledge of events or boxes: compiled loops, atomic files, remote files, private parts of torch.

Does not belong here: anything that only one other package uses.
"""
