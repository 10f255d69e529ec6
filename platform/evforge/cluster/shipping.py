"""Start of Ray jobs: check the paths in the settings of a job, collect the files that it needs, and submit it."""

import importlib.util
import secrets
import shlex
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import detector
import evforge
from detector.config import Config
from evforge import RAY_ENVIRONMENT, EvForgeError
from evforge.cluster.credentials import upload
from evforge.cluster.ray_compat import agent_is_missing

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["is_shared", "launch", "own_packages", "unshared", "unshared_text"]

LIMIT_BYTES = 50 * 10**6
"""Largest total size of the files of a job. Code and settings need less than 1 MB.

Ray itself rejects 100 MB, but its message names no file.
"""

START_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses in seconds between attempts to submit a job to a head node that has just started."""

JOB_ENVIRONMENT = {**RAY_ENVIRONMENT, "RAY_JOB_STOP_WAIT_TIME_S": "30"}  # seconds to end the MLflow runs


def unshared(config: Config) -> list[str]:
    """Return one error message for each path or address in a configuration that a job cannot use.

    A job runs in a temporary folder, so paths must be absolute.
    """
    folders = {"data.dataset_path": config.data.dataset_path, "train.storage": config.train.storage}
    if config.train.pretrained is not None:
        folders["train.pretrained"] = config.train.pretrained
    wrong = [
        unshared_text(key, path, "an absolute path that all nodes see")
        for key, path in folders.items()
        if not is_shared(path)
    ]
    uri = config.track.tracking_uri
    if uri is None or (uri.startswith("sqlite") and not uri.partition("///")[2].startswith("/")):
        allowed = "a server's http://HOST:5000, or sqlite:////FOLDER/mlflow.db in a folder that all nodes see"
        wrong.append(unshared_text("track.tracking_uri", uri, allowed))
    return wrong


def own_packages(import_paths: Iterable[str]) -> dict[str, Path]:
    """Find the user's packages and modules that a job must contain: those in import paths that are not installed.

    `detector` and `evforge` are not in the result, because every job contains them.

    Args:
        import_paths: import paths such as `package.module:Name`.

    Returns:
        Dict from the name of each top-level package or module to its folder or file.

    Raises:
        ValueError: a package or module cannot be found.
    """
    installed = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    found = {}
    for path in import_paths:
        package = path.partition(":")[0].partition(".")[0]
        spec = importlib.util.find_spec(package)
        if spec is None or not (spec.origin or spec.submodule_search_locations):
            allowed = "a module in the working folder, in a folder of PYTHONPATH, or installed"
            raise ValueError(f"{path}: module {package} not found, allowed: {allowed}")
        source = Path(next(iter(spec.submodule_search_locations or [str(spec.origin)]))).absolute()
        if package not in ("detector", "evforge") and not any(source.is_relative_to(each) for each in installed):
            found[package] = source
    return found


def launch(
    client: "JobSubmissionClient",
    name: str,
    module: Sequence[str],
    files: Mapping[str, Path],
    packages: Mapping[str, Path] = MappingProxyType({}),
    credentials: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Send code and files to the cluster, print their size, and start a job.

    Args:
        client: client of the job server.
        name: part of the job's id, such as "doctor".
        module: name of the Python module to run, followed by its arguments.
        files: dict from file names in the job's working folder to local files.
        packages: further packages and modules to send, as returned by `own_packages`.
        credentials: dict from names of environment variables of the job to secret values, which Ray does not write to
            files.

    Returns:
        Id of the job.

    Raises:
        EvForgeError: the files are too large, or the cluster rejects the job.
    """
    contents = _contents(files, packages)
    sizes = {target: source.stat().st_size for target, source in contents.items()}
    _check_size(sizes)
    variables = {**JOB_ENVIRONMENT, **upload(client, credentials)}
    job_id = f"evforge-{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    entrypoint = shlex.join(["python", "-m", *module])
    with _archive(contents) as archive:
        size = archive.stat().st_size / 1e6
        print(
            f"shipping {len(sizes)} files, {size:.2f} MB: {', '.join(['detector', 'evforge', *packages, *files])}",
            flush=True,
        )
        runtime_env = {"working_dir": str(archive), "env_vars": variables}
        for pause in (*START_PAUSES_S, None):
            try:
                return client.submit_job(entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env)
            except RuntimeError as error:
                if pause is None or not agent_is_missing(error):
                    raise EvForgeError(f"the cluster rejects the job: {error}") from None
                time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def is_shared(path: str) -> bool:
    """Return whether a path is absolute or an address. A job runs in a temporary folder and cannot use other paths."""
    return Path(path).is_absolute() or "://" in path


def unshared_text(name: str, found: Any, allowed: str) -> str:
    """Return the error message for a path or address that a job cannot use.

    Args:
        name: key of the setting.
        found: value of the setting.
        allowed: description of the allowed values.
    """
    return f"{name}: got {found!r}, which a job would look for in its temporary folder; allowed in a job: {allowed}"


def _contents(files: Mapping[str, Path], packages: Mapping[str, Path]) -> dict[str, Path]:
    """Return all files to send, as a dict from paths in the job's working folder to local files.

    Python imports the packages from the working folder.
    """
    found = dict(files)
    own = {package.__name__: Path(str(package.__file__)).parent for package in (detector, evforge)}
    for name, root in {**own, **packages}.items():
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{name}/{path.relative_to(root)}"] = path
        if root.is_file():
            found[root.name] = root
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
    """Context manager that creates a temporary ZIP file for its block, and yields the path of the file.

    Ray's own archive would contain whole folders and is not compressed.

    Args:
        contents: dict from paths in the ZIP file to local files.
    """
    with tempfile.TemporaryDirectory(prefix="evforge-job-") as name:
        path = Path(name) / "job.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for target, source in contents.items():
                archive.write(source, target)
        yield path
