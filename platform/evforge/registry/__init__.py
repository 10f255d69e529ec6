"""The model registry: registration, promotion to champion, the lock for promotions, and the text of MLflow's pages.

Does not belong here: measuring and exporting a model (`evaluation/`).
"""
