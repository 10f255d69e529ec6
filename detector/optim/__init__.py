"""Optimizers, and the learning rate as a function of training progress, also for resumed Lightning trainings.

Does not belong here: losses and the training loop.
"""
