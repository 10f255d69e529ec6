"""Recordings and datasets for the command line: build many, check, inspect.

Does not belong here: what a single file holds or how it is built, which `detector.data` knows.
"""
