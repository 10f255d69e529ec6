"""The last line of a verb: the command that usually follows."""

import shlex

from evforge.cli.settings import Settings

__all__ = ["print_next"]


def print_next(verb: str, *words: object, settings: Settings | None = None, groups: tuple[str, ...] = ()) -> None:
    """Print a line `next: evforge VERB ...` with a complete command for a shell.

    Args:
        verb: verb of the command.
        words: its arguments, which are quoted if needed.
        settings: settings of the current command.
        groups: groups of these settings that the next command also needs; `--config` is included if it was given.
    """
    given = settings.words(*groups) if settings is not None else []
    print(" ".join(["next: evforge", verb, *(shlex.quote(str(word)) for word in words), *given]), flush=True)
