"""The forms of exported files except the plain one, and the layers and modules that these files contain.

Does not belong here: the table of all forms, `EXPORT_FORMS` in `detector.config.extensions`.
"""
