"""Files that a job needs, its start, and checks of its paths."""

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
from evforge.cluster.ray_compat import agent_is_missing

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["is_shared", "launch", "own_packages", "unshared", "unshared_text"]

LIMIT_BYTES = 50 * 10**6
"""Limit of the shipped files. Code and settings take less than 1 MB; Ray rejects 100 MB without naming a file."""

START_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses between attempts to submit a job to a head that has just started."""

JOB_ENVIRONMENT = {**RAY_ENVIRONMENT, "RAY_JOB_STOP_WAIT_TIME_S": "30"}  # time to end the MLflow runs


def unshared(config: Config) -> list[str]:
    """Errors about the paths and addresses of a configuration that a job, with its temporary folder, cannot use."""
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
    """The packages and modules of import paths that are not installed: top-level name -> folder or file.

    Raises:
        ValueError: a package cannot be found.
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
) -> str:
    """Ship code and files, print their size, and start a job.

    Args:
        client: client of the job server.
        name: word in the id of the job.
        module: Python module to run, and its arguments.
        files: name in the job's working folder -> file.
        packages: further packages and modules to ship, see `own_packages`.

    Returns:
        Id of the job.

    Raises:
        EvForgeError: the files are too large, or the cluster rejects the job.
    """
    contents = _contents(files, packages)
    sizes = {target: source.stat().st_size for target, source in contents.items()}
    _check_size(sizes)
    job_id = f"evforge-{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    entrypoint = shlex.join(["python", "-m", *module])
    with _archive(contents) as archive:
        size = archive.stat().st_size / 1e6
        print(
            f"shipping {len(sizes)} files, {size:.2f} MB: {', '.join(['detector', 'evforge', *packages, *files])}",
            flush=True,
        )
        runtime_env = {"working_dir": str(archive), "env_vars": JOB_ENVIRONMENT}
        for pause in (*START_PAUSES_S, None):
            try:
                return client.submit_job(entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env)
            except RuntimeError as error:
                if pause is None or not agent_is_missing(error):
                    raise EvForgeError(f"the cluster rejects the job: {error}") from None
                time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def is_shared(path: str) -> bool:
    """Whether a path is absolute or an address, and thus valid in a job, whose working folder is temporary."""
    return Path(path).is_absolute() or "://" in path


def unshared_text(name: str, found: Any, allowed: str) -> str:
    """The error message about a path or address that `is_shared` rejects."""
    return f"{name}: got {found!r}, which a job would look for in its temporary folder; allowed in a job: {allowed}"


def _contents(files: Mapping[str, Path], packages: Mapping[str, Path]) -> dict[str, Path]:
    """All files to ship: path in the job's working folder, from which Python imports the packages -> file."""
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
    """A ZIP file of exactly these files. Ray's own archive contains whole folders and is not compressed."""
    with tempfile.TemporaryDirectory(prefix="evforge-job-") as name:
        path = Path(name) / "job.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for target, source in contents.items():
                archive.write(source, target)
        yield path
