import numpy as np
import pytest

from detector.events.containers.column_order import check_names, find_order
from detector.events.reader import CHUNK

SIZE = 20, 30
PLACES = {"t,x,y,p": (1, 2, 3, 0), "x,y,p,t": (0, 1, 2, 3), "x,y,t,p": (0, 1, 3, 2)}


def table(order, events):
    names = order.split(",")
    return np.array(events)[:, ["xypt".index(name) for name in names]]


# Pixels that would also be times in order, and times that would also be pixels.
ALIKE = [(1, 2, 0, 3), (4, 5, 1, 6), (7, 8, 0, 9)]
EVENTS = [(29, 2, 0, 300), (4, 19, 1, 600), (7, 8, 0, 900)]


@pytest.mark.parametrize("order", PLACES)
def test_values_that_determine_the_order(order):
    assert find_order("a", table(order, EVENTS), SIZE, None) == PLACES[order]
    seconds = [(x, y, p, t / 1e3) for x, y, p, t in ALIKE]
    assert find_order("a", table(order, seconds), SIZE, None) == PLACES[order]


@pytest.mark.parametrize("order", ["t,x,y,p", "x,y,t,p"])
def test_values_that_do_not(order):
    rows = table(order, ALIKE)
    with pytest.raises(ValueError, match="a: .* fit more than one order: t,x,y,p or x,y,t,p; give .*t,x,y,p$"):
        find_order("a", rows, SIZE, None)
    assert find_order("a", rows, SIZE, order) == PLACES[order]
    assert find_order("a", rows, SIZE, None, usual=order) == PLACES[order]
    place = order.split(",").index("t")
    assert find_order("a", rows, SIZE, None, known={place: "t"}) == PLACES[order]


def test_the_size_of_the_sensor_is_evidence():
    rows = table("t,x,y,p", ALIKE)
    with pytest.raises(ValueError, match="more than one order"):
        find_order("a", rows, (20, 10), None)
    assert find_order("a", rows, (20, 8), None) == PLACES["t,x,y,p"]  # the times 3, 6, 9 are no pixels of 8


def test_p_alone_decides_between_some_orders():
    assert find_order("a", table("x,y,p,t", ALIKE), SIZE, None) == PLACES["x,y,p,t"]
    with pytest.raises(
        ValueError, match=r"fit none of the orders .* \(polarity -1, 0 or 1, pixels in 30 x 20, times in"
    ):
        find_order("a", table("x,y,p,t", [(1, 2, 7, 9)]), SIZE, None)


def test_a_few_faulty_events_do_not_change_the_order():
    events = [(29 - k, k, k % 2, 1000 + k) for k in range(16)]
    events[3], events[8] = (29, 700, 1, 1003), (5, 5, 0, 4)
    for order, places in PLACES.items():
        assert find_order("a", table(order, events), SIZE, None) == places


def test_later_events_decide_if_the_first_do_not():
    x = np.minimum(np.arange(CHUNK + 9), 5)
    events = np.stack([x, x, x % 2, x], axis=1)
    rows = events[:, [3, 0, 1, 2]]
    with pytest.raises(ValueError, match="more than one"):
        find_order("a", rows, SIZE, None)
    rows = rows.astype(float)
    rows[-1, 0] = 5.5
    assert find_order("a", rows, SIZE, None) == PLACES["t,x,y,p"]


def test_an_empty_table_and_wrong_numbers_of_columns():
    assert find_order("a", np.zeros((0, 4)), SIZE, None) == PLACES["t,x,y,p"]
    assert find_order("a", np.zeros((0, 4)), SIZE, None, usual="x,y,t,p") == PLACES["x,y,t,p"]
    with pytest.raises(ValueError, match="a: 5 columns without names, allowed: 4, .*--data.event_columns"):
        find_order("a", np.zeros((2, 5)), SIZE, None)
    assert find_order("a", np.zeros((2, 5)), SIZE, "n,p,t,y,x") == (4, 3, 1, 2)


def test_names_in_a_file_against_an_order():
    check_names("a", ["ts", "x@640", "y@480", "on"], "t,x,y,p")
    check_names("a", ["ts", "x", "y", "on"], None)
    with pytest.raises(ValueError, match="a: data.event_columns: got 't,x,y,p', .* allowed: no value, or t,y,x,p"):
        check_names("a", ["ts", "y", "x", "on"], "t,x,y,p")
