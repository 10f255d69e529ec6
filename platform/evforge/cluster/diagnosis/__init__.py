"""`evforge doctor`: checks of this machine, of settings, and of all nodes of a cluster.

Does not belong here: what a training or search does with the result, such as leaving out a node.
"""
