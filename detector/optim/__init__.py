"""Optimizers, and the learning rate as a function of the training progress, also in resumed Lightning trainings.

Does not belong here: losses and the training loop.
"""
