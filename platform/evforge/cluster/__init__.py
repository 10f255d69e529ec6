"""Ray: sessions, jobs and their files, and checks of machines and clusters.

`ray_compat` is the only module that touches private parts of Ray. Does not belong here: training and search.
"""
