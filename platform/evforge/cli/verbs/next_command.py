"""The last line of a verb: the command that usually follows."""

import shlex

from detector.config.credentials import without_passwords
from evforge.cli.settings import Settings

__all__ = ["print_next"]


def print_next(verb: str, *words: object, settings: Settings | None = None, groups: tuple[str, ...] = ()) -> None:
    """Print a line `next: evforge VERB ...` with a complete command for a shell.

    Args:
        verb: verb of the command.
        words: its arguments, which are quoted if needed. Passwords are removed from addresses.
        settings: settings of the current command.
        groups: groups of these settings that the next command also needs; `--config` is included if it was given.
            A flag that is in `words` is not repeated.
    """
    given = settings.words(*groups) if settings is not None else []
    given = [word for word in given if word.partition("=")[0] not in words]
    quoted = [shlex.quote(without_passwords(str(word))) for word in words]
    print(" ".join(["next: evforge", verb, *quoted, *given]), flush=True)
