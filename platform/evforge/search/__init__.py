"""Searches: the driver, the trials and the dry run. `policies/` contains the samplers and schedulers.

Does not belong here: search spaces (`space/`) and reports of a study (`reports/`).
"""
