"""Search spaces: the YAML file, the domains of the searched keys, and the options for anchor lists.

Does not belong here: how values are chosen from the domains (`search/policies`).
"""
