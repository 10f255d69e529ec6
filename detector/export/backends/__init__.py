"""All kinds of exported files except plain TorchScript, and the layers and modules that these files contain.

Does not belong here: the table of all kinds of files, `EXPORT_FORMS` in `detector.config.extensions`.
"""
