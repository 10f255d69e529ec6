"""Names of the event columns x, y, p, t in tables, arrays and HDF5 groups of various tools."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["OPTION", "find_names", "known_names", "parse_columns", "plain_name", "time_unit"]

OPTION = "data.event_columns"
"""Setting that contains the order of the columns of a table without names."""

NAMES = {
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "polarity", "pol", "on", "ps", "polarities"),
    "t": ("t", "timestamp", "ts", "time", "timestamps"),
}
"""For each event column, its names in the files of various tools, in lower case."""

UNITS = {
    **dict.fromkeys(("us", "µs", "μs", "usec", "microseconds"), "us"),
    **dict.fromkeys(("s", "sec", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "milliseconds"), "ms"),
    **dict.fromkeys(("ns", "nsec", "nanoseconds"), "ns"),
}
"""For each unit after the name of a time column, as in `t_us` or `time [s]`, its usual abbreviation."""

SUFFIX = re.compile(r"(?:@\d+|[ _]*\[(?P<a>[^\]]*)\]|[ _]*\((?P<b>[^)]*)\)|[ _](?P<c>[^\W_]+))$")
"""What may follow a name: faery's size of the sensor (`x@640`), or a unit."""


def plain_name(name: str) -> str:
    """Return a column name in lower case, without quotes, unit and sensor size: "t" for `"T [us]"`."""
    name = name.strip().strip("\"'").strip().lower()
    found = SUFFIX.search(name)
    unit = found and next((text for text in (found["a"], found["b"], found["c"]) if text is not None), None)
    if found and (unit is None or unit.strip() in {*UNITS, "px", "pixel", "pixels"}):
        return name[: found.start()]
    return name


def time_unit(name: str) -> str | None:
    """Return the unit in the name of a time column: us, s, ms, ns, or None if the name contains no unit."""
    found = SUFFIX.search(name.strip().strip("\"'").strip().lower())
    texts = (found["a"], found["b"], found["c"]) if found else ()
    return next((UNITS[text.strip()] for text in texts if text and text.strip() in UNITS), None)


def known_names(names: Iterable[str]) -> dict[str, str]:
    """Return a dict from those of x, y, p, t that are among `names` to their names. Case does not matter."""
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(plain_name(name), name)
    found = {key: next((plain[name] for name in known if name in plain), None) for key, known in NAMES.items()}
    return {key: name for key, name in found.items() if name is not None}


def find_names(
    source: object, names: Iterable[str], units: Sequence[str | None] = (None, "us", "s"), advice: str = ""
) -> tuple[str, str, str, str]:
    """Find the names of the columns x, y, p, t in a file, such as "polarity" for p or "timestamp" for t.

    Args:
        source: the file, named in error messages.
        names: names of all columns of the file.
        units: accepted units in the name of the time column, None for a name without unit.
        advice: end of the error message if a column is missing.

    Returns:
        Names of the columns x, y, p, t in the file.

    Raises:
        ValueError: a column is missing, or the times have another unit.
    """
    names = list(names)
    found = known_names(names)
    if found.keys() != NAMES.keys():
        allowed = ", ".join("|".join(known) for known in NAMES.values())
        raise ValueError(f"{source}: no events: found {_listed(names)}; required: {allowed}{advice}")
    unit = time_unit(found["t"])
    if unit not in units:
        raise ValueError(f"{source}: times in {unit} ({found['t']}), allowed: microseconds or seconds")
    return found["x"], found["y"], found["p"], found["t"]


def parse_columns(text: str) -> tuple[str, ...]:
    """Parse the setting `data.event_columns`: the names of all columns of a table in order, separated by commas.

    Returns:
        The names without blanks. x, y, p and t are among them once, also under other known names.

    Raises:
        ValueError: one of x, y, p, t is missing or occurs twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    plain = [plain_name(name) for name in names]
    if known_names(names).keys() != NAMES.keys() or any(
        sum(name in known for name in plain) > 1 for known in NAMES.values()
    ):
        raise ValueError(
            f"{OPTION}: got {text!r}, allowed: the names of all columns in order, separated by commas, with each of "
            "x, y, p, t once, such as t,x,y,p"
        )
    return names


def _listed(names: Sequence[str]) -> str:
    """Return up to 20 names as text."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(names[:20]) or "nothing") + more
