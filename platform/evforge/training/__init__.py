"""One training: Ray Train around Lightning, callbacks, the run's folder, and what it costs.

Does not belong here: many trainings (`search/`).
"""
