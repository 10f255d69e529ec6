"""The `evforge` command: its entry, the command lines of its verbs, and the submission of one as a job.

Does not belong here: the work of a verb.
"""
