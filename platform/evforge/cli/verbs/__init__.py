"""The verbs of the `evforge` command, one function per verb and one module per group of verbs.

The command line of a verb is generated from the signature and docstring of its function. The function prints the paths
of the results. Does not belong here: the work itself, for which the function calls other packages. It imports these
packages when it runs, so that `evforge --help` is fast.
"""

from collections.abc import Callable

from evforge.cli.verbs.cluster import completion, doctor, submit
from evforge.cli.verbs.data import anchors, build, check, inspect, labels, synth
from evforge.cli.verbs.models import evaluate, export, predict, registry, report, ui
from evforge.cli.verbs.training import quickstart, train, tune

__all__ = ["VERBS"]

VERBS: dict[str, Callable[..., int | None]] = {
    "quickstart": quickstart,
    "synth": synth,
    "labels": labels,
    "build": build,
    "inspect": inspect,
    "check": check,
    "anchors": anchors,
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "registry": registry,
    "report": report,
    "ui": ui,
    "submit": submit,
    "doctor": doctor,
    "completion": completion,
}
