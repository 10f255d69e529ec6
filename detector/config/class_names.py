"""Class names: the allowed ones, and their form in metric and file names."""

import re
from collections.abc import Iterable

__all__ = ["check_class_names", "metric_key", "metric_name"]

MAX_BYTES = 200
"""MLflow stores 250 characters of a metric's name, file systems 255 bytes of a file's."""

UNSAFE = re.compile(r"[^\w\-. ]|_(?=x)|^\.")
"""Characters that MLflow or file systems do not accept, the start of an escape, and a leading dot."""


def metric_name(class_name: str) -> str:
    """A class name as part of a metric's or file's name: letters of any script, digits, `_`, `-`, `.` and spaces.

    Every other character becomes `_x<hex>_`; two class names never have the same result. "car (parked)" becomes
    "car _x28_parked_x29_".
    """
    return UNSAFE.sub(lambda found: f"_x{ord(found[0]):x}_", class_name)


def metric_key(key: str) -> str:
    """A metric such as `val_ap/<class>` under a name that MLflow accepts; two keys never have the same name."""
    head, separator, class_name = key.partition("ap/")
    return head + separator + metric_name(class_name)


def check_class_names(source: str, names: Iterable[object]) -> None:
    """Raise a ValueError that begins with `source` for the first name that is not a printable text without padding.

    Args:
        source: where the names come from, a file or a setting.
        names: class names, "empty" included.
    """
    for name in names:
        ok = isinstance(name, str) and name.isprintable() and name == name.strip() != ""
        if not ok or len(metric_name(str(name)).encode()) > MAX_BYTES:
            shown = name if not isinstance(name, str) or len(name) <= 60 else f"{name[:60]}..."
            raise ValueError(
                f"{source}: got the class name {shown!r}, allowed: printable text without blanks at its ends, "
                f"at most {MAX_BYTES} bytes long"
            )
