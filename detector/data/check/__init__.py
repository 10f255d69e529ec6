"""Surveys of recordings and datasets, and checks for faults in them.

Does not belong here: printing findings and surveys, which the platform does.
"""
