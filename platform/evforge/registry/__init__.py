"""The model registry: registering, the promotion to champion, its lock, and what its pages show.

Does not belong here: measuring and exporting a model (`evaluation/`).
"""
