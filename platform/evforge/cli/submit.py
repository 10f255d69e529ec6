"""Submission of an `evforge` command as a Ray job. The code and all YAML and JSON files in the command are sent too."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from detector.config.credentials import split_password, without_passwords
from detector.config.extensions import IMPORT_PATH, TABLES
from evforge.cli.settings import Settings
from evforge.cluster.credentials import named_values
from evforge.cluster.jobs import connect, follow, overview, server_address, status, stop
from evforge.cluster.shipping import is_shared, launch, own_packages, unshared, unshared_text
from evforge.search.policies.tables import SAMPLERS, SCHEDULERS
from evforge.space.space import load_space

__all__ = ["JOBS", "check_job", "manage", "submit"]

SHIPPED_SUFFIXES = (".yaml", ".yml", ".json")
STORE_FLAG = "--track.tracking_uri"
INTERRUPTED = 130


JOBS = {"build": ("recordings", "output"), "train": ("resume",), "tune": ("resume",)}
"""For each command that can run as a job, the names of its arguments that are paths of files or folders."""


def submit(
    command: Sequence[str], values: Mapping[str, Any], address: str | None = None, env: Sequence[str] = ()
) -> int:
    """Run an `evforge` command as a job on a cluster and follow its log. Ctrl-C leaves the job running.

    Args:
        command: verb and arguments, such as `["tune", "space.yaml"]`.
        values: parsed arguments of the command.
        address: address of the job server, see `evforge.cluster.jobs.server_address`.
        env: names of environment variables whose values the job receives.

    Returns:
        Exit code of the command; 130 after Ctrl-C.

    Raises:
        ValueError: the command cannot run as a job, a variable in `env` is not set, or a file contains a password.
        EvForgeError: the files to send are too large, or the cluster does not answer.
    """
    credentials = named_values(env)
    packages = own_packages(check_job(command[0], values))
    arguments, names = _move_passwords(command)
    credentials |= {name: os.environ[name] for name in names if name in os.environ}
    arguments, files = _named_files(arguments)
    for path in files.values():
        _refuse_passwords(path)
    server = server_address(address)
    client = connect(server)
    job_id = launch(client, command[0], ["evforge", *arguments], files, packages, credentials)
    flag = f" --address {shlex.quote(without_passwords(address))}" if address else ""
    try:
        print(f"job {job_id} at {without_passwords(server)}: evforge {shlex.join(arguments)}", flush=True)
        print(f"next: evforge submit{flag} --logs {job_id}", flush=True)
        return follow(client, job_id)
    except KeyboardInterrupt:
        print(
            f"\nthe job continues\nfollow its log: evforge submit{flag} --logs {job_id}\n"
            f"stop it: evforge submit{flag} --stop {job_id}"
        )
        return INTERRUPTED


def manage(action: str, job_id: str, address: str | None = None) -> int:
    """Print the status or the log of a job, stop it, or list all jobs.

    Args:
        action: --status, --logs, --stop or --list.
        job_id: id of the job; empty for --list.
        address: address of the job server.

    Returns:
        Exit code of the job for --logs, 0 otherwise.

    Raises:
        EvForgeError: the job does not exist, or the cluster does not answer.
    """
    client = connect(server_address(address))
    if action == "--logs":
        return follow(client, job_id)
    text = {"--status": status, "--stop": stop}[action](client, job_id) if job_id else overview(client)
    print(text)
    return 0


def check_job(verb: str, values: Mapping[str, Any]) -> set[str]:
    """Check that a command can run as a job: all nodes must be able to use its paths and addresses.

    Args:
        verb: verb of the command, such as "tune".
        values: parsed arguments of the command.

    Returns:
        All import paths (`module:name`) in the settings and the search space of the command.

    Raises:
        ValueError: a path is relative, or the tracking store is a file in the working folder. A job has a temporary
            working folder.
    """
    for name in JOBS[verb]:
        value = values.get(name) or []
        for path in [value] if isinstance(value, str) else value:
            if not is_shared(path):
                raise ValueError(unshared_text(name, path, "an absolute path that all nodes see"))
    settings = next((value for value in values.values() if isinstance(value, Settings)), Settings())
    space = load_space(values["space"]) if values.get("space") else None
    config = settings.resolve(between=space.settings if space else {})
    problems = unshared(config) if verb != "build" and not values.get("resume") else []  # a build uses no storage
    if problems:
        raise ValueError(problems[0])
    keys = (*TABLES, SAMPLERS.key, SCHEDULERS.key)
    names = {config.to_flat()[key] for key in keys}
    if space:
        names |= {option for key in keys if key in space.domains for option in space.domains[key].options}
    return {name for name in names if IMPORT_PATH.fullmatch(name)}


def _named_files(command: Sequence[str]) -> tuple[list[str], dict[str, Path]]:
    """Find the existing YAML and JSON files in a command, and replace their paths by names in the job's working folder.

    Returns:
        The new command, and a dict from these names to the paths of the local files.
    """
    arguments, files = [], dict[str, Path]()
    for word in command:
        flag, equals, value = _flag_and_value(word)
        path = Path(value)
        if path.suffix in SHIPPED_SUFFIXES and path.is_file():
            known = next((name for name, source in files.items() if source == path), None)
            name = known or (path.name if path.name not in files else f"{len(files)}-{path.name}")
            files[name] = path
            value = name
        arguments.append(f"{flag}{equals}{value}")
    return arguments, files


def _flag_and_value(word: str) -> tuple[str, str, str]:
    """Split a word of a command line into flag, "=" and value.

    For `--flag` without a value, the last two are empty. A word without `--` is a value; the first two are empty.
    """
    return word.partition("=") if word.startswith("--") else ("", "", word)


def _move_passwords(command: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove the password from the address of the tracking store in a command.

    Returns:
        The new command, and the names of the environment variables that must contain the removed parts in the job.

    Raises:
        ValueError: an address in another argument contains a password.
    """
    arguments, names = list[str](), list[str]()
    for word, before in zip(command, ("", *command), strict=False):
        flag, equals, value = _flag_and_value(word)
        if STORE_FLAG in (flag, before):
            value, found = split_password(value)
            names += found
        elif without_passwords(value) != value:
            raise ValueError(_password_text(flag or (before if before.startswith("--") else command[0]), value))
        arguments.append(f"{flag}{equals}{value}")
    return arguments, names


def _refuse_passwords(path: Path) -> None:
    """Raise a ValueError if an address in a YAML or JSON file contains a password. The error names its key or line."""
    text = path.read_text()
    with suppress(yaml.YAMLError):
        for key, value in _leaves(yaml.safe_load(text)):
            if without_passwords(value) != value:
                raise ValueError(f"{path}: {_password_text(key, value)}")
    for number, line in enumerate(text.splitlines(), start=1):
        if without_passwords(line) != line:  # in a comment, for example
            raise ValueError(f"{path}: {_password_text(f'line {number}', line.strip())}")


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield a pair (dotted key, text) for each text in nested dicts and lists."""
    if isinstance(tree, str):
        yield key, tree
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in items:
        yield from _leaves(value, f"{key}.{name}" if key else str(name))


def _password_text(key: str, value: str) -> str:
    allowed = "the address without the password, and its variables as `evforge submit --env NAME`"
    return f"{key}: got {without_passwords(value)!r}, whose password Ray would write to files; allowed: {allowed}"
