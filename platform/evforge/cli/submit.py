"""Submission: a command of evforge as a job on a cluster, with the code and the YAML files that it needs."""

import secrets
import shlex
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import detector
import evforge
from detector.config import Config
from evforge import RAY_ENVIRONMENT, EvForgeError
from evforge.arguments import Settings
from evforge.jobs import connect, follow, overview, server_address, status, stop

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["JOBS", "check_job", "launch", "look_after", "submit", "unshared"]

LIMIT_BYTES = 50 * 10**6
"""Code and settings are below one; Ray refuses 100 with a message that names no file."""
SHIPPED_SUFFIXES = (".yaml", ".yml", ".json")
INTERRUPTED = 130
NOT_YET, START_PAUSES_S = "No available agent", (1.0, 2.0, 4.0, 8.0)  # a head that has just started
JOB_ENVIRONMENT = {**RAY_ENVIRONMENT, "RAY_JOB_STOP_WAIT_TIME_S": "30"}  # time to end MLflow's runs


@dataclass(frozen=True)
class JobKind:
    """What of a command must be found on the cluster.

    Args:
        paths: arguments that are files or folders
        trains: whether it reads a dataset, writes runs and records them
    """

    paths: tuple[str, ...]
    trains: bool


JOBS = {
    "build": JobKind(("recordings", "output"), trains=False),
    "train": JobKind(("resume",), trains=True),
    "tune": JobKind(("resume",), trains=True),
}


def submit(command: Sequence[str], values: Mapping[str, Any], address: str | None = None) -> int:
    """Run a command of evforge on a cluster and follow its log; Ctrl-C leaves the job running.

    Args:
        command: the command line, `["tune", "space.yaml", ...]`.
        values: what the verb's parser makes of it.
        address: the job server's; see `evforge.jobs.server_address`.

    Returns:
        Exit code of the command, or 130 if Ctrl-C came before its end.

    Raises:
        ValueError: the command cannot run as a job.
        EvForgeError: too much would be shipped, or the cluster does not answer.
    """
    check_job(command[0], values)
    arguments, files = _named_files(command)
    server = server_address(address)
    client = connect(server)
    job_id = launch(client, command[0], ["evforge.cli", *arguments], files)
    flag = f" --address {address}" if address else ""
    try:
        print(f"job {job_id} at {server}: evforge {shlex.join(arguments)}", flush=True)
        return follow(client, job_id)
    except KeyboardInterrupt:
        print(
            f"\nno longer following; the job goes on\nfollow it: evforge submit{flag} --logs {job_id}\n"
            f"end it: evforge submit{flag} --stop {job_id}"
        )
        return INTERRUPTED


def look_after(action: str, job_id: str, address: str | None = None) -> int:
    """Look after jobs.

    Args:
        action: --status, --logs, --stop or --list.
        job_id: which job; none for --list.
        address: the job server's.

    Returns:
        Exit code of the job for --logs, 0 otherwise.

    Raises:
        EvForgeError: there is no such job, or the cluster does not answer.
    """
    client = connect(server_address(address))
    if action == "--logs":
        return follow(client, job_id)
    text = {"--status": status, "--stop": stop}[action](client, job_id) if job_id else overview(client)
    print(text)
    return 0


def check_job(verb: str, values: Mapping[str, Any]) -> None:
    """Make sure that whatever a command reads and writes will be there for all nodes, and after the job.

    Raises:
        ValueError: names the first path or address that will not.
    """
    kind = JOBS[verb]
    for name in kind.paths:
        for path in _listed(values.get(name)):
            if not _is_shared(path):
                raise ValueError(_unshared(name, path, "an absolute path that all nodes see"))
    settings = next((value for value in values.values() if isinstance(value, Settings)), Settings())
    config = settings.resolve(between=_space_settings(values))
    if kind.trains and not values.get("resume"):
        for problem in unshared(config):
            raise ValueError(problem)


def unshared(config: Config) -> list[str]:
    """What is wrong with the paths and addresses of a configuration in a job, whose working folder is temporary."""
    folders = {"data.dataset_path": config.data.dataset_path, "train.storage": config.train.storage}
    if config.train.pretrained is not None:
        folders["train.pretrained"] = config.train.pretrained
    wrong = [
        _unshared(key, path, "an absolute path that all nodes see")
        for key, path in folders.items()
        if not _is_shared(path)
    ]
    uri = config.track.tracking_uri
    if uri is None or (uri.startswith("sqlite") and not uri.partition("///")[2].startswith("/")):
        allowed = "a server's http://HOST:5000, or sqlite:////FOLDER/mlflow.db in a folder that all nodes see"
        wrong.append(_unshared("track.tracking_uri", uri, allowed))
    return wrong


def launch(client: "JobSubmissionClient", name: str, module: Sequence[str], files: Mapping[str, Path]) -> str:
    """Ship the code and some files, say how much that is, and start a job.

    Args:
        client: the job server's.
        name: word for the job's id.
        module: module to run with Python, and its arguments.
        files: files of the job's working folder, by their names there.

    Returns:
        The job's id.

    Raises:
        EvForgeError: it is too much, or the cluster refuses the job.
    """
    contents = _contents(files)
    sizes = {target: source.stat().st_size for target, source in contents.items()}
    _check_size(sizes)
    job_id = f"evforge-{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    entrypoint = shlex.join(["python", "-m", *module])
    with _archive(contents) as archive:
        size = archive.stat().st_size / 1e6
        print(f"shipping {len(sizes)} files, {size:.2f} MB: {', '.join(['detector', 'evforge', *files])}", flush=True)
        runtime_env = {"working_dir": str(archive), "env_vars": JOB_ENVIRONMENT}
        for pause in (*START_PAUSES_S, None):
            try:
                return client.submit_job(entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env)
            except RuntimeError as error:
                if pause is None or NOT_YET not in str(error):
                    raise EvForgeError(f"the cluster refuses the job: {error}") from None
                time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _space_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the file of a search space, if the command names one."""
    from evforge.space import load_space

    return load_space(values["space"]).settings if values.get("space") else {}


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _is_shared(path: str) -> bool:
    return Path(path).is_absolute() or "://" in path


def _unshared(name: str, found: Any, allowed: str) -> str:
    return f"{name}: got {found!r}, which a job would look for in its temporary folder; allowed in a job: {allowed}"


def _named_files(command: Sequence[str]) -> tuple[list[str], dict[str, Path]]:
    """The command as it reads in the job's working folder, and the files that it names there."""
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


def _contents(files: Mapping[str, Path]) -> dict[str, Path]:
    """Every file to ship, by its place in the job's working folder, from which Python imports the packages."""
    found = dict(files)
    for package in (detector, evforge):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{package.__name__}/{path.relative_to(root)}"] = path
    return found


def _check_size(sizes: Mapping[str, int]) -> None:
    if sum(sizes.values()) > LIMIT_BYTES:
        largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:3]
        listed = ", ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in largest)
        raise EvForgeError(
            f"{sum(sizes.values()) / 1e6:.1f} MB would be shipped, allowed: {LIMIT_BYTES / 1e6:.0f} MB; "
            f"the largest files: {listed}"
        )


@contextmanager
def _archive(contents: Mapping[str, Path]) -> Iterator[Path]:
    """A ZIP file of the files, so that nothing that lies beside them goes along; Ray's own is not compressed."""
    with tempfile.TemporaryDirectory(prefix="evforge-job-") as name:
        path = Path(name) / "job.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for target, source in contents.items():
                archive.write(source, target)
        yield path
