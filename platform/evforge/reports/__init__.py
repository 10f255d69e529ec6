"""The report of a study: its data, its figures, its page.

Does not belong here: text of a running search (`search/`).
"""
