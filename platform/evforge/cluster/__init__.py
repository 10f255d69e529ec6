"""Use of Ray: sessions, jobs with their files, and checks of machines and clusters.

The module `ray_compat` is the only one that uses private parts of Ray. Does not belong here: training and search.
"""
