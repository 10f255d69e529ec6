"""The `evforge` command: entry point, command line of each verb (subcommand), and submission of verbs as Ray jobs.

Does not belong here: trainings, searches and other work, for which a verb calls other packages.
"""
