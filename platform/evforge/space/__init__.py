"""Search spaces: the YAML file, the domains of its keys, and how it writes anchor lists.

Does not belong here: how samples are chosen (`search/policies`).
"""
