"""Policies of a search: samplers, schedulers, and population-based training.

Does not belong here: the training of a trial.
"""
