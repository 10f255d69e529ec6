"""Runs, metrics and files in MLflow, kept through outages, and copies of registered models.

Does not belong here: the registry's rules (`registry/`).
"""
