"""Find faults of the events of a recording: repeated events, hot pixels, flickering lamps, a missing polarity.

Does not belong here: checks that need labels (`alignment`), and events that readers mend or drop (`detector.events`).
"""
