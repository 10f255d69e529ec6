"""Verbs about clusters and installations: submit, doctor, completion."""

from dataclasses import asdict
from typing import Any, Literal

from evforge.cli.parser import Command, parse
from evforge.cli.settings import GROUPS, Settings
from evforge.cli.verbs.next_command import print_next

__all__ = ["completion", "doctor", "submit"]


def submit(
    command: Command,
    *,
    address: str | None = None,
    env: list[str] | None = None,
    status: str | None = None,
    logs: str | None = None,
    stop: str | None = None,
    list: bool = False,
) -> int:
    """Run a command on a cluster: evforge submit -- tune space.yaml --config settings.yaml.

    Ships the code, and the YAML and JSON files named in the command. Follows the log, and returns the exit code of the
    command. Ctrl-C leaves the job running. The commands build, train and tune can be submitted.

    A job does not get the environment variables of this machine. With --env, it gets the value of a variable, such as
    a credential. The value is not written to any file:
    evforge submit --env AWS_ACCESS_KEY_ID --env AWS_SECRET_ACCESS_KEY -- build s3://bucket/a.raw --output /data/gen1

    Args:
        command: the command line after --
        address: address of Ray's job server; RAY_API_SERVER_ADDRESS, RAY_ADDRESS or http://127.0.0.1:8265 if not given
        env: name of an environment variable whose value the job receives; may be repeated
        status: print the status of the job with this id
        logs: follow the log of the job with this id
        stop: stop the job with this id
        list: list all jobs
    """
    from evforge.cli import submit as jobs
    from evforge.cli.verbs import VERBS

    asked = {"--status": status, "--logs": logs, "--stop": stop, "--list": list or None, "-- VERB ...": command or None}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"submit: got {' and '.join(given) or 'nothing'}, allowed: one of {', '.join(asked)}")
    if env and not command:
        raise ValueError(f"submit: got --env with {given[0]}, allowed: --env with -- VERB ...")
    if not command:
        return jobs.manage(given[0], status or logs or stop or "", address)
    if command[0] not in jobs.JOBS:
        raise ValueError(f"submit: got {command[0]!r}, allowed: {', '.join(jobs.JOBS)}")
    return jobs.submit(command, parse(command[0], VERBS[command[0]], command[1:]), address, env or ())


def doctor(settings: Settings, *, address: str | None = None, json: bool = False) -> int:
    """Diagnose the installation: missing packages, version mismatches, unreachable services.

    Checks this machine. If --address or the environment variable RAY_ADDRESS names a cluster, also checks the cluster.
    If settings are given, also checks that a command with these settings can run. Environment variables with
    credentials, such as MLFLOW_TRACKING_PASSWORD, are sent to the cluster if they are set on this machine.

    Args:
        address: address of Ray's job server on the cluster, such as http://127.0.0.1:8265
        json: print the results as one JSON document
    """
    from evforge.cluster.diagnosis.doctor import doctor as run
    from evforge.display.json_output import json_text, only_json

    config = settings.resolve()
    config_given = config if settings.file is not None or settings.overrides else None
    if json:
        found: Any = []
        with only_json(True):
            code = run(config_given, address, found)
        print(json_text({"ok": code == 0, "checks": [asdict(check) for check in found]}))
        return code
    code = run(config_given, address)
    again = [] if address is None else ["--address", address]
    if code:
        print_next("doctor", *again, settings=settings, groups=GROUPS)
    elif config_given is not None:
        print_next("train", settings=settings, groups=tuple(group for group in GROUPS if group != "tune"))
    else:
        print_next("quickstart")
    return code


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script that completes evforge commands in a shell.

    bash: evforge completion bash > ~/.local/share/bash-completion/completions/evforge
    zsh: evforge completion zsh > a folder of $fpath/_evforge
    fish: evforge completion fish > ~/.config/fish/completions/evforge.fish

    Args:
        shell: the shell
    """
    from evforge.cli.completion import completion_script
    from evforge.cli.verbs import VERBS

    print(completion_script(shell, VERBS))
