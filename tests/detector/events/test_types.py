"""The dtypes are formats on disk, so their bytes are part of the interface."""

import numpy as np

from detector.events.types import BBOX_dtype, EventCD, EventExtTrigger


def test_an_event_has_14_bytes_x_y_p_t():
    event = np.frombuffer(bytes([1, 2, 3, 4, 0xFF, 0xFF, 5, 0, 0, 0, 0, 0, 0, 0x80]), EventCD)
    assert event.tolist() == [(0x0201, 0x0403, -1, -(1 << 63) + 5)]


def test_a_trigger_has_12_bytes_p_t_id():
    trigger = np.frombuffer(bytes([1, 0, 7, 0, 0, 0, 0, 1, 0, 0, 6, 0]), EventExtTrigger)
    assert trigger.tolist() == [(1, (1 << 40) + 7, 6)]


def test_a_box_has_40_bytes_of_which_the_last_4_are_unused():
    box = np.array([(5, 1.5, 2.5, 3.5, 4.5, 6, 7, 0.5)], BBOX_dtype)
    data = box.tobytes()
    assert len(data) == 40
    assert np.frombuffer(data, "<i8", 1).tolist() == [5]
    assert np.frombuffer(data, "<f4", 4, 8).tolist() == [1.5, 2.5, 3.5, 4.5]
    assert np.frombuffer(data, "<u4", 2, 24).tolist() == [6, 7]
    assert np.frombuffer(data, "<f4", 1, 32).tolist() == [0.5]
    assert BBOX_dtype.names == ("t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence")
