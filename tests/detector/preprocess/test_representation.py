import numpy as np
import pytest
from plain_preprocess import random_events
from representations import CHOICES

from detector.config.extensions import REPRESENTATIONS
from detector.config.groups import DataConfig
from detector.preprocess.representation import representation_of


def test_every_name_has_its_function():
    assert {choice["preprocess"] for choice in CHOICES} == set(REPRESENTATIONS)


@pytest.mark.parametrize("choice", CHOICES)
def test_bytes_are_floats_times_the_divisor(choice):
    found = representation_of(DataConfig(max_incr_per_pixel=4, **choice))
    events = random_events(2000, 8, 8, 1000)
    coded, floats = (np.ones((3, found.channels, 8, 8), kind) for kind in (found.dtype, np.float32))
    for output in (coded, floats):
        found.fill(events, output, 1000)
    assert floats.max() == 1
    steps = 1.01 if found.divisor > 4 else 1e-5
    assert np.abs(coded / found.divisor - floats).max() <= steps / found.divisor


def test_a_time_surface_cannot_run_backwards():
    with pytest.raises(ValueError, match="data.reversal: got 0.5, allowed: 0 with data.preprocess timesurface"):
        representation_of(DataConfig(preprocess="timesurface", reversal=0.5))


@pytest.mark.parametrize(
    ("choice", "channels"),
    [
        ({}, 2),
        ({"preprocess": "diff"}, 1),
        ({"preprocess": "timesurface"}, 2),
        ({"preprocess": "multi_channel_timesurface"}, 6),
        ({"preprocess": "event_cube"}, 6),
        ({"preprocess": "event_cube", "num_utbins": 5, "split_polarity": False}, 5),
        ({"preprocess": "stacked_histo", "num_utbins": 10}, 20),
    ],
)
def test_channels_follow_from_the_preprocessing(choice, channels):
    assert representation_of(DataConfig(**choice)).channels == channels
