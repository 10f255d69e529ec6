"""Compute statistics of recordings and datasets ("surveys"), and check datasets for faults.

Does not belong here: printing findings and surveys, which the platform does.
"""
