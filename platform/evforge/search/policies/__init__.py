"""What a search is steered by: samplers, schedulers, and population-based training.

Does not belong here: the trials' own work.
"""
