"""Building, checking and inspecting recordings and datasets from the command line.

Does not belong here: the content and the building of a single file (`detector.data`).
"""
