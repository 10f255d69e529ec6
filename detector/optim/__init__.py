"""How weights are updated: the learning rate as a function of progress, in Lightning's trainings too.

Does not belong here: losses and the training loop.
"""
