"""Tools that do not depend on events or boxes: compiled loops, atomic and remote files, private parts of torch.

Does not belong here: anything that only one other package uses.
"""
