"""What the first bytes of a recording state: format, sensor size, names of columns. Also what other files look like.

Does not belong here: decoding of events.
"""
