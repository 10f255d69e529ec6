"""Settings: the groups, the tree that holds them, and the checks that refuse wrong values.

Does not belong here: anything that reads data or builds a network from the settings.
"""

from detector.config.tree import Config

__all__ = ["Config"]
