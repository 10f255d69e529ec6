"""Text tables and the common style of figures.

Does not belong here: the content of a particular table or figure.
"""
