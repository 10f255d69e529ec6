"""Event reading, boxes and the detection network of EvForge, usable without Ray and MLflow.

Import the modules by name, such as `detector.anchors`.
"""
