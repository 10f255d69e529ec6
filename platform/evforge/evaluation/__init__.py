"""Trained detectors: load, measure, compare, export, predict.

Does not belong here: the metrics themselves (`detector.evaluation`).
"""
