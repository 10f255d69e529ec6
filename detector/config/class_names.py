"""Class names: which names are allowed, and how they are written in the names of metrics and files."""

import re
from collections.abc import Iterable

__all__ = ["check_class_names", "metric_key", "metric_name"]

MAX_BYTES = 200
"""Largest length of a converted class name. MLflow allows 250 characters per name, file systems allow 255 bytes."""

UNSAFE = re.compile(r"[^\w\-. ]|_(?=x)|^\.")
"""Matches a character that MLflow or file systems do not accept, an `_` before `x`, and a leading dot."""


def metric_name(class_name: str) -> str:
    """Convert a class name to a form that is allowed in the names of metrics and files.

    Letters of any script, digits, `_`, `-`, `.` and spaces are kept. Each other character is replaced by `_x<hex>_`,
    where <hex> is its Unicode code point. For example, "car (parked)" becomes "car _x28_parked_x29_". A leading dot and
    an `_` before `x` are also replaced. Different class names always have different results.
    """
    return UNSAFE.sub(lambda found: f"_x{ord(found[0]):x}_", class_name)


def metric_key(key: str) -> str:
    """Convert the key of a metric, such as `val_ap/<class>`, to a name that MLflow accepts.

    Different keys always have different names.
    """
    head, separator, class_name = key.partition("ap/")
    return head + separator + metric_name(class_name)


def check_class_names(source: str, names: Iterable[object]) -> None:
    """Raise a ValueError if a class name is empty, too long, not printable or has blanks at its start or end.

    Args:
        source: file or setting that contains the names. The error message begins with it.
        names: class names. The frame label "empty" is allowed.
    """
    for name in names:
        ok = isinstance(name, str) and name.isprintable() and name == name.strip() != ""
        if not ok or len(metric_name(str(name)).encode()) > MAX_BYTES:
            shown = name if not isinstance(name, str) or len(name) <= 60 else f"{name[:60]}..."
            raise ValueError(
                f"{source}: got the class name {shown!r}, allowed: printable text without blanks at its ends, "
                f"at most {MAX_BYTES} bytes long"
            )
