"""What recordings and datasets hold, and what is wrong with them.

Does not belong here: how findings and surveys are printed, which the platform does.
"""
