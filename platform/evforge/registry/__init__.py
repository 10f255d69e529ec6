"""The model registry: registration, promotion to champion, its lock, and the text of its pages.

Does not belong here: measuring and exporting a model (`evaluation/`).
"""
