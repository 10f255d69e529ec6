"""Comparison of anchor lists with the training labels: candidates, coverage, the report and its figure.

Does not belong here: the computation of coverage and the fit of anchors (`detector.coverage`).
"""
