"""Layouts of public datasets: where their recordings and labels are, and what their splits and classes are.

A layout turns a downloaded folder into the `Source`s of a build, without renaming a file. Does not belong here: formats
of event files (`detector.events`) and label files (`detector.labels`) that other datasets use too.
"""

from detector.data.layouts.layout import Layout, find_layout

__all__ = ["Layout", "find_layout"]
