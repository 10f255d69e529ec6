"""Events and boxes as images and videos.

Does not belong here: plots of metrics, which the package `evforge` draws.
"""
