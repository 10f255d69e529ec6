"""Runs, metrics and files in MLflow, with retries during outages; copies of registered models.

Does not belong here: the registry's rules (`registry/`).
"""
