"""The `evforge` command: its entry point, the command lines of its verbs, and their submission as jobs.

Does not belong here: the work of a verb.
"""
