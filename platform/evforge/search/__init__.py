"""Searches: driver, trials, dry run; `policies/` draw samples and stop trials.

Does not belong here: search spaces (`space/`) and reports of a study (`reports/`).
"""
