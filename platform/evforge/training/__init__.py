"""Training of one detector: Ray Train and Lightning, callbacks, the run's folder, and costs.

Does not belong here: searches, which run many trainings (`search/`).
"""
