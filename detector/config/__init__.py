"""Settings: the groups, the tree of all groups, and the checks of their values.

Does not belong here: anything that reads data or builds a network from the settings.
"""

from detector.config.tree import Config

__all__ = ["Config"]
