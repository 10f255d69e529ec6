"""The forms of exported files except the plain form, and the layers and modules in these files.

Does not belong here: the table of all forms, `EXPORT_FORMS` in `detector.config.extensions`.
"""
