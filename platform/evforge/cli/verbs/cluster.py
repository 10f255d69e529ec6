"""Verbs about clusters and installations: submit a job, diagnose."""

from evforge.cli.parser import Command, Settings, parse

__all__ = ["doctor", "submit"]


def submit(
    command: Command,
    *,
    address: str | None = None,
    status: str | None = None,
    logs: str | None = None,
    stop: str | None = None,
    list: bool = False,
) -> int:
    """Run a command on a cluster: evforge submit -- tune space.yaml --config settings.yaml.

    Ships the code and the YAML files that the command names, follows the log, and ends as the command does. Ctrl-C
    leaves the job running. Commands: build, train, tune.

    Args:
        command: the command line after --
        address: Ray's job server; that of RAY_API_SERVER_ADDRESS or RAY_ADDRESS, or http://127.0.0.1:8265 if not given
        status: id of a job to say the state of
        logs: id of a job to follow again
        stop: id of a job to end
        list: show all jobs
    """
    from evforge.cli import submit as jobs
    from evforge.cli.verbs import VERBS

    asked = {"--status": status, "--logs": logs, "--stop": stop, "--list": list or None, "-- VERB ...": command or None}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"submit: got {' and '.join(given) or 'nothing'}, allowed: one of {', '.join(asked)}")
    if not command:
        return jobs.look_after(given[0], status or logs or stop or "", address)
    if command[0] not in jobs.JOBS:
        raise ValueError(f"submit: got {command[0]!r}, allowed: {', '.join(jobs.JOBS)}")
    return jobs.submit(command, parse(command[0], VERBS[command[0]], command[1:]), address)


def doctor(settings: Settings, *, address: str | None = None) -> int:
    """Look at what is installed, reachable or mismatched: here, and on a cluster if one is named.

    The cluster is the one of --address or RAY_ADDRESS. With settings it is asked for what they need, too.

    Args:
        address: Ray's job server on the cluster, such as http://127.0.0.1:8265
    """
    from evforge.cluster.doctor import doctor as look

    config = settings.resolve()
    return look(config if settings.file is not None or settings.overrides else None, address)
