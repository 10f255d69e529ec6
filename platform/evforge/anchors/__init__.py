"""Anchor lists against the training labels: candidates, their coverage, the report and its figure.

Does not belong here: how coverage is computed and anchors are fitted (`detector.coverage`).
"""
