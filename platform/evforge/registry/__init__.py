"""The model registry: registration, promotion to champion, the lock for promotions, model cards and listings.

Does not belong here: measuring and exporting a model (`evaluation/`).
"""
