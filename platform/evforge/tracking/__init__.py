"""MLflow: runs with their metrics and files, retries during outages of the server, and copies of registered models.

Does not belong here: the registry's rules (`registry/`).
"""
