"""The report of a study: its data, its figures, its page.

Does not belong here: the text output of a running search (`search/`).
"""
