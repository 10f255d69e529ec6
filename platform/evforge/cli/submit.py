"""Submission of a command as a job on a cluster, with the code and the YAML and JSON files that it needs."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.config.extensions import IMPORT_PATH, TABLES
from evforge.cli.parser import Settings
from evforge.cluster.jobs import connect, follow, overview, server_address, status, stop
from evforge.cluster.shipping import is_shared, launch, own_packages, unshared, unshared_text
from evforge.search.policies.tables import SAMPLERS, SCHEDULERS
from evforge.space.space import load_space

__all__ = ["JOBS", "check_job", "manage", "submit"]

SHIPPED_SUFFIXES = (".yaml", ".yml", ".json")
INTERRUPTED = 130


JOBS = {"build": ("recordings", "output"), "train": ("resume",), "tune": ("resume",)}
"""For each command that can run as a job, the names of its arguments that are paths of files or folders."""


def submit(command: Sequence[str], values: Mapping[str, Any], address: str | None = None) -> int:
    """Run an `evforge` command as a job on a cluster and follow its log. Ctrl-C leaves the job running.

    Args:
        command: verb and arguments, such as `["tune", "space.yaml"]`.
        values: parsed arguments of the command.
        address: address of the job server, see `evforge.cluster.jobs.server_address`.

    Returns:
        Exit code of the command; 130 after Ctrl-C.

    Raises:
        ValueError: the command cannot run as a job.
        EvForgeError: the shipped files are too large, or the cluster does not answer.
    """
    packages = own_packages(check_job(command[0], values))
    arguments, files = _named_files(command)
    server = server_address(address)
    client = connect(server)
    job_id = launch(client, command[0], ["evforge", *arguments], files, packages)
    flag = f" --address {address}" if address else ""
    try:
        print(f"job {job_id} at {server}: evforge {shlex.join(arguments)}", flush=True)
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
    """Check that the paths and addresses of a command are valid on all nodes, also after the job has ended.

    Args:
        verb: name of the command.
        values: parsed arguments of the command.

    Returns:
        All import paths (`module:name`) in the settings and the search space of the command.

    Raises:
        ValueError: a path or address is valid only on one machine or during the job.
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
        The new command, and for each of these names the path of the file to ship.
    """
    arguments, files = [], dict[str, Path]()
    for word in command:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        path = Path(value)
        if path.suffix in SHIPPED_SUFFIXES and path.is_file():
            known = next((name for name, source in files.items() if source == path), None)
            name = known or (path.name if path.name not in files else f"{len(files)}-{path.name}")
            files[name] = path
            value = name
        arguments.append(f"{flag}{equals}{value}")
    return arguments, files
