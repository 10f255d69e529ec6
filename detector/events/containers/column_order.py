"""Order of the columns x, y, p, t in tables without names, from their values or from the setting `data.event_columns`.

Three orders are in use. The values decide only if exactly one of the orders is possible:

- p contains only -1, 0 and 1. x and y are whole numbers.
- At most a quarter of the events are outside the sensor or earlier than the event before, because a few events may be
  faulty. If the first rule leaves only one order, three quarters are allowed, and the reader reports the faulty events.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from detector.events.headers.column_names import OPTION, find_names, known_names, parse_columns, plain_name
from detector.events.reader import CHUNK

__all__ = ["ORDERS", "Rows", "check_names", "find_order"]

ORDERS = ("t,x,y,p", "x,y,p,t", "x,y,t,p")
"""Orders of tables without names, as values of `data.event_columns`."""

MOST, MOST_ALONE = 0.25, 0.75
"""Largest share of events outside the sensor or out of order, and the same if only one order has p in its place."""

MOST_CHUNKS = 16
"""Number of chunks of events that are compared before a table counts as ambiguous."""

Order = tuple[int, int, int, int]


class Rows(Protocol):
    """A table of shape (N, number of columns): an array, or a dataset of an HDF5 file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the table."""

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return some of the rows."""


def find_order(
    source: object,
    rows: Rows,
    size: tuple[int, int],
    event_columns: str | None,
    *,
    known: Mapping[int, str] | None = None,
    usual: str | None = None,
) -> Order:
    """Return the positions of x, y, p, t in a table without names.

    Args:
        source: the file, named in error messages.
        rows: the table.
        size: height and width of the sensor in pixels.
        event_columns: names of all columns in order, as in the setting `data.event_columns`; None to use the values.
        known: dict from positions to the names x, y, p, t, for columns that are known from their notation.
        usual: order in which the tool that wrote the file stores the columns. It is used if it is possible.

    Raises:
        ValueError: more than one order is possible, or none, or `event_columns` does not fit the table.
    """
    count = rows.shape[1]
    if event_columns is not None:
        names = parse_columns(event_columns)
        if len(names) != count:
            raise ValueError(f"{source}: {OPTION}: got {event_columns!r}, allowed: {count} names, one per column")
        return _positions(names)
    if count != 4:
        raise ValueError(
            f"{source}: {count} columns without names, allowed: 4, or names in the first line, "
            f"or --{OPTION} with the name of each column"
        )
    orders = [order for order in ORDERS if all(order.split(",")[at] == name for at, name in (known or {}).items())]
    possible = _possible(rows, orders, size)
    if usual is not None and usual in possible:
        return _positions(usual.split(","))
    if len(possible) != 1 and rows.shape[0]:
        raise ValueError(f"{source}: {_explain(possible, size)}")
    return _positions(possible[0].split(","))


def check_names(source: object, names: Sequence[str], event_columns: str | None) -> None:
    """Raise a ValueError if `event_columns` contradicts the names that the columns have in a file."""
    if event_columns is None:
        return
    keys = {name: key for key, name in known_names(names).items()}
    wanted = parse_columns(event_columns)
    if [keys.get(name, plain_name(name)) for name in names] != [_key(name, wanted) for name in wanted]:
        raise ValueError(
            f"{source}: {OPTION}: got {event_columns!r}, but the columns have names, "
            f"allowed: no value, or {','.join(keys.get(name, name) for name in names)}"
        )


def _key(name: str, names: Sequence[str]) -> str:
    return next((key for key, known in known_names(names).items() if known == name), plain_name(name))


def _positions(names: Sequence[str]) -> Order:
    x, y, p, t = (list(names).index(name) for name in find_names(OPTION, names))
    return x, y, p, t


def _possible(rows: Rows, orders: Sequence[str], size: tuple[int, int]) -> list[str]:
    """Return those of the orders that the values allow. Stop reading as soon as at most one is left."""
    against = dict.fromkeys(orders, 0)
    count, possible = 0, list(orders)
    for start in range(0, min(rows.shape[0], MOST_CHUNKS * CHUNK), CHUNK):
        part = rows[start : start + CHUNK]
        count += part.shape[0]
        for order in list(against):
            found = _contradictions(part, _positions(order.split(",")), size)
            if found is None:
                del against[order]
            else:
                against[order] += found
        most = MOST_ALONE if len(against) == 1 else MOST
        possible = [order for order, number in against.items() if number <= most * count]
        if len(possible) < 2:
            break
    return possible


def _contradictions(rows: np.ndarray, order: Order, size: tuple[int, int]) -> int | None:
    """Return the number of events that contradict an order. None if x, y or p contain values that are impossible."""
    x, y, p, t = (rows[:, place] for place in order)
    if not np.isin(p, (-1, 0, 1)).all() or any(bool((values != np.floor(values)).any()) for values in (x, y)):
        return None
    height, width = size
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    return int(outside.sum()) + int((t[1:] < t[:-1]).sum())


def _explain(possible: Sequence[str], size: tuple[int, int]) -> str:
    height, width = size
    advice = f"give the order of the columns, for example --{OPTION} {(possible or ORDERS)[0]}"
    if possible:
        return f"the columns have no names, and the values fit more than one order: {' or '.join(possible)}; {advice}"
    return (
        f"the columns have no names, and the values fit none of the orders {' or '.join(ORDERS)} (polarity -1, 0 or 1, "
        f"pixels in {width} x {height}, times in order); {advice}"
    )
