"""Recordings and datasets for the command line: build many, check, inspect.

Does not belong here: the content and the building of a single file (`detector.data`).
"""
