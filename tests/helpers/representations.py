"""Settings that choose each representation."""

CHOICES = [
    {"preprocess": "histo"},
    {"preprocess": "diff"},
    {"preprocess": "timesurface"},
    {"preprocess": "multi_channel_timesurface"},
    {"preprocess": "event_cube", "num_utbins": 2},
    {"preprocess": "event_cube", "split_polarity": False},
    {"preprocess": "stacked_histo", "num_utbins": 4},
]
