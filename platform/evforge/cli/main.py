"""Entry point of the `evforge` command: runs a verb, prints errors as one line, and returns an exit code.

This module imports no large library: each verb imports torch and ray itself.
"""

import errno
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from detector.config.checks import Mistakes
from detector.config.credentials import without_passwords
from evforge import EvForgeError, one_line
from evforge.cli.docs import summary
from evforge.cli.parser import parse
from evforge.cli.verbs import VERBS
from evforge.cluster.credentials import receive
from evforge.tracking.store import CREDENTIALS_WANTED, REJECTED

__all__ = ["main"]

USER_ERROR, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
END = 0  # a byte that is the number of no signal

NETWORK = "a server failed", "check its address, and that it runs and can be reached from here"
STORAGE = "the object storage failed", "check its address, and the variables AWS_*"
FAILURES = {
    "ray": ("Ray failed", "check that all nodes run; a training or a search continues with --resume FOLDER"),
    "mlflow": ("MLflow failed", "check track.tracking_uri, and that the server or the database can be used"),
    "sqlalchemy": ("the database failed", "check track.tracking_uri, and the space and the permissions on the disk"),
    **dict.fromkeys(("requests", "urllib3", "aiohttp", "grpc"), NETWORK),
    **dict.fromkeys(("boto3", "botocore"), STORAGE),
}
"""What failed and what to do, by the top-level package of an exception. These errors are not bugs of this program."""

_HINT = "EVFORGE_TRACEBACK=1 shows the traceback"
MOST_CHARACTERS = 300
"""Longest message of another library that is printed completely."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb that the command line names.

    Args:
        arguments: words of the command line after the program's name; `sys.argv[1:]` if None.

    Returns:
        Exit code: 0 after success; 1 if the verb (such as `doctor`) finds a problem, or if MLflow has not received
        everything; 2 after an error of the user, of a server or of the cluster; 130 after Ctrl-C or SIGTERM; 141 if
        the reader of the output, such as `head`, has ended. Other errors are bugs and are raised.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # settings may name modules in the working folder by import path
    with _acknowledged(), _interrupts() as came:
        try:
            arguments = _set_verbosity(arguments)
            if arguments == ["--version"]:
                print(f"evforge {version('evforge')}")
                return 0
            if not arguments or arguments[0] in ("-h", "--help", "help"):
                print(_help())
                return 0 if arguments else USER_ERROR
            verb, *rest = arguments
            if verb not in VERBS:
                close = get_close_matches(verb, VERBS, n=1)
                hint = f"did you mean {close[0]}?" if close else "`evforge --help` lists the verbs"
                raise ValueError(f"unknown verb {verb}, {hint}")
            receive()
            _undelivered()  # forgets the files of an earlier command in this process
            code = VERBS[verb](**parse(verb, VERBS[verb], rest)) or _delivered()
            sys.stdout.flush()  # the last place where a closed pipe can be handled
            return code
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _discard_unread_output():
                return CLOSED_PIPE
            text = "" if came else _explanation(error)  # an interrupted library may raise any error
            if text is None or "EVFORGE_TRACEBACK" in os.environ:
                raise
            if came:
                return _interrupted()
            for line in text.splitlines():
                print(f"evforge: error: {without_passwords(line)}", file=sys.stderr)
            return USER_ERROR
        except (KeyboardInterrupt, SystemExit) as error:
            if isinstance(error, SystemExit) and not came:  # Lightning exits by SystemExit after an interrupt
                raise
            return _interrupted()


def _interrupted() -> int:
    print("evforge: interrupted", file=sys.stderr)
    return INTERRUPTED


def _set_verbosity(arguments: Sequence[str]) -> list[str]:
    """Apply `-q` and `-v` to this process and its child processes, and return the other words."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    words = set(arguments[:end])
    if words & {"-q", "--quiet"}:
        os.environ.update({"EVFORGE_QUIET": "1", "TQDM_DISABLE": "1"})
    if words & {"-v", "--verbose"}:
        os.environ["EVFORGE_TRACEBACK"] = "1"
    kept = [word for word in arguments[:end] if word not in ("-q", "--quiet", "-v", "--verbose")]
    return kept + list(arguments[end:])


def _discard_unread_output() -> bool:
    """Discard further output if nothing reads it any more, and return whether this is so."""
    unread = [stream.fileno() for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
    for number in unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return bool(unread)


def _is_unread(stream: TextIO) -> bool:
    """Return whether a stream is a pipe whose reader has ended."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):  # the stream is not a file
        return False
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _undelivered() -> tuple[list[Path], int]:
    """Return the files with writes that MLflow has not received since the last call, and the number of lost writes."""
    queue = sys.modules.get("evforge.tracking.retry_queue")  # only some verbs import it
    return queue.undelivered() if queue is not None else ([], 0)


def _delivered() -> int:
    """Return the exit code 0 if all writes to MLflow were delivered; else print a line and return 1."""
    files, lost = _undelivered()
    if files:
        listed = ", ".join(map(str, files))
        print(f"evforge: MLflow has not received everything; the next command delivers {listed}", file=sys.stderr)
    if lost:
        print(f"evforge: MLflow has not received everything; {lost} writes are lost", file=sys.stderr)
    return int(bool(files or lost))


def _explanation(error: Exception) -> str | None:
    """Return the line that explains an error; None if the error is a bug of this program."""
    while isinstance(cause := getattr(error, "cause", None), Exception):  # an error in another process of Ray
        error = cause
    if isinstance(error, Mistakes):
        return str(error)
    text = one_line(error)
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] not in ("detector", "evforge"):
        return (
            f"the package {error.name} is not installed; install it, or all of EvForge with `uv sync --extra platform`"
        )
    packages = [parent.__module__.partition(".")[0] for parent in type(error).__mro__]
    package = next((name for name in packages if name in FAILURES), None)
    if package == "mlflow" and REJECTED.search(text):
        return f"{CREDENTIALS_WANTED}; {_HINT}"
    if package is not None:
        failed, remedy = FAILURES[package]
        short = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
        return f"{failed}: {short or type(error).__name__}; {remedy}; {_HINT}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = f"{text}; free some space on this disk"
    return text if isinstance(error, ValueError | OSError | EvForgeError) else None


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Context manager that raises KeyboardInterrupt at the first Ctrl-C or SIGTERM in its block.

    The block can then end its child processes. Further signals are ignored. An interrupt in a place that cannot raise,
    such as a callback of a compiler, is not reported by the interpreter.

    Yields:
        An empty list, to which the number of the first signal is appended when the signal arrives.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not came:  # later signals are ignored while the first one is handled
            came.append(number)
            raise KeyboardInterrupt

    def report(unraisable: Any) -> None:
        if not came:
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, report
    handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _acknowledged() -> Iterator[None]:
    """Context manager that prints a line at the first Ctrl-C or SIGTERM in its block, before the block can clean up.

    A thread prints the line. It also works while another library, such as Ray Train, has replaced the handlers. At the
    end, the thread is stopped by a byte, because processes that were forked in the block keep the pipe open.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def acknowledge() -> None:
        while (number := os.read(reader, 1)[0]) != END:
            if number in (signal.SIGINT, signal.SIGTERM):
                with suppress(OSError, ValueError):
                    print("evforge: stopping; Ctrl-C again is ignored", file=sys.stderr, flush=True)
                return

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=acknowledge, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        with suppress(BlockingIOError):  # the pipe is full: the thread has ended after a signal
            os.write(writer, bytes([END]))
        thread.join()
        os.close(writer)
        os.close(reader)


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {summary(function)}" for name, function in VERBS.items())
    return (
        "usage: evforge VERB ...\n\nEvent-camera object detection: train, search, evaluate, export.\n\n"
        f"verbs:\n{verbs}\n\n"
        "options:\n"
        "  -h, --help     show this text; after a verb, the arguments of the verb; --help all shows all settings\n"
        "  --version      show the version\n"
        "  -q, --quiet    no progress, only results and errors\n"
        "  -v, --verbose  the traceback of an error, and the messages of the libraries (or EVFORGE_TRACEBACK=1)"
    )
