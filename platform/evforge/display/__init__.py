"""Text tables and the common style of figures.

Does not belong here: what a certain table or figure shows.
"""
