"""Trained detectors: load, measure, compare, export, predict.

Does not belong here: the measures themselves (`detector.evaluation`).
"""
