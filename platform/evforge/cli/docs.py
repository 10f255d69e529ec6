"""Help texts from docstrings in Google's style."""

import inspect
import re
from typing import Any

__all__ = ["argument_docs", "description", "summary"]


def summary(thing: Any) -> str:
    """Return the first line of the docstring of `thing`."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def description(thing: Any) -> str:
    """Return the docstring of `thing` without the sections that describe arguments and results."""
    return (inspect.getdoc(thing) or "").partition("\n\nArgs:")[0]


def argument_docs(thing: Any) -> dict[str, str]:
    """Return a dict from the names of arguments to descriptions, read from the docstring of `thing`."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", inspect.getdoc(thing) or "", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
