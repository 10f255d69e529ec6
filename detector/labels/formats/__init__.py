"""Formats of label files, one module per format. Each module defines one `LabelFormat`.

Does not belong here: finding label files, image numbers as times, and checks of values, which are the same for all
formats.
"""
