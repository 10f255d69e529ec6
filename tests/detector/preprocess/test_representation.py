import numpy as np
import pytest
from plain_preprocess import random_events
from representations import CHOICES

from detector.config.groups import DataConfig
from detector.preprocess.representation import REPRESENTATIONS, byte_code, preprocess_function


def test_every_name_has_its_function():
    assert {choice["preprocess"] for choice in CHOICES} == set(REPRESENTATIONS)


@pytest.mark.parametrize("choice", CHOICES)
def test_bytes_are_floats_times_the_divisor(choice):
    data = DataConfig(max_incr_per_pixel=4, **choice)
    dtype, divisor = byte_code(data)
    events = random_events(2000, 8, 8, 1000)
    coded, floats = (np.ones((3, data.in_channels, 8, 8), kind) for kind in (dtype, np.float32))
    for output in (coded, floats):
        preprocess_function(data)(events, output, 1000)
    assert floats.max() == 1
    steps = 1.01 if divisor > 4 else 1e-5
    assert np.abs(coded / divisor - floats).max() <= steps / divisor
