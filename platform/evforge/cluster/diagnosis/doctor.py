"""`evforge doctor`: checks of the installation on this machine, of settings, and of a cluster."""

import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from detector.config import Config
from detector.config.credentials import without_passwords
from evforge import EvForgeError
from evforge.cluster.credentials import set_credentials
from evforge.cluster.diagnosis import preflight
from evforge.cluster.diagnosis.checks import Check, Probe, Status, outcome, print_check, print_checks, version_of
from evforge.cluster.jobs import connect, follow, use_token
from evforge.cluster.session import cpu_count
from evforge.cluster.shipping import launch, unshared

__all__ = ["Check", "doctor"]

GIB = 2**30
IMPORTED = ("pytorch_lightning", "ray", "mlflow", "optuna")


def doctor(config: Config | None = None, address: str | None = None, found: list[Check] | None = None) -> int:
    """Check everything that EvForge needs and print one line per check.

    Args:
        config: settings of the planned command; None to check no settings.
        address: address of the cluster on which the command will run; RAY_ADDRESS if None. If neither is given, no
            cluster is checked.
        found: list to which the results of all checks in this process are appended; a job prints its results only.

    Returns:
        1 if a check has the status FAIL, else 0.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        use_token()  # before a check imports ray
    failed = sum(print_checks(name, probe, found) for name, probe in PROBES.items())
    if address:
        print(f"\ncluster at {without_passwords(address)}", flush=True)
        failed += _on_cluster(config, address, found)
    elif config is not None:
        failed += print_checks("settings", partial(preflight.local_checks, config), found)
    print(f"{failed} problem(s): see the lines with FAIL" if failed else "everything that EvForge needs is available")
    return 1 if failed else 0


def _on_cluster(config: Config | None, address: str, found: list[Check] | None = None) -> int:
    """Check a cluster, and return the number of checks with the status FAIL.

    If `address` is an HTTP address of a job server, a job runs the checks. Otherwise this process connects to the
    cluster and runs the checks.
    """
    versions = preflight.installed()
    if not address.startswith(("http://", "https://")):
        return print_checks("cluster", partial(preflight.cluster_checks, config, versions), found)
    problems = [problem.partition(": ") for problem in unshared(config)] if config is not None else []
    failed = sum(print_check(Check(key, "FAIL", text)) for key, _, text in problems)
    if not failed:  # otherwise the job would look for the rejected paths in its temporary folder
        request = {"versions": versions, "settings": None if config is None else config.to_flat()}
        failed += _ask_by_job(address, request)
    return failed


def _ask_by_job(address: str, request: dict) -> int:
    """Check a cluster by a job, print the output of the job, and return the number of checks with the status FAIL.

    Args:
        address: address of the job server.
        request: content of the JSON file that `evforge.cluster.diagnosis.preflight.main` reads.
    """
    try:
        client = connect(address)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "request.json"
            file.write_text(json.dumps(request))
            module = ["evforge.cluster.diagnosis.preflight", file.name]
            job_id = launch(client, "doctor", module, {file.name: file}, credentials=set_credentials())
        return abs(follow(client, job_id))
    except EvForgeError as error:
        return print_check(Check("job server", "FAIL", without_passwords(str(error))))


def _python() -> Iterator[Check]:
    allowed = importlib.metadata.metadata("evforge")["Requires-Python"]
    found = platform.python_version()
    yield outcome("python", found in SpecifierSet(allowed), found, f"{found}, needed: {allowed}")


def _packages() -> Iterator[Check]:
    """Check the installed versions of all packages that EvForge and its extra `platform` require."""
    for needed in _requirements("evforge", {"platform"}):
        found = version_of(needed.name) or ""
        parts = _requirements(needed.name, needed.extras) if found else ()
        missing = ", ".join(part.name for part in parts if version_of(part.name) is None)
        problem = ""
        if not found:
            problem = "not installed"
        elif not needed.specifier.contains(found, prereleases=True):
            problem = f"{found}, needed: {needed.specifier}"
        elif missing:  # Ray without its dashboard, for example, hangs after the first trial that is stopped early
            problem = f"{found} without {missing}"
        extras = f"[{','.join(sorted(needed.extras))}]" if needed.extras else ""
        command = f"pip install '{needed.name}{extras}{needed.specifier}'"
        yield outcome(needed.name, not problem, found, f"{problem}: {command}")


def _one_lightning() -> Iterator[Check]:
    # If the package `lightning` is installed, Ray's strategies are subclasses of its classes. pytorch_lightning rejects
    # such strategies.
    found = version_of("lightning")
    problem = f"lightning {found} beside pytorch_lightning: pip uninstall lightning"
    yield outcome("one Lightning", found is None, "pytorch_lightning alone", problem)


def _torch_pair() -> Iterator[Check]:
    import torch
    from torchvision.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    kept = nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()
    yield outcome("torch + torchvision", kept == [1, 2], "nms runs", f"nms keeps {kept}, not [1, 2]")


def _import(name: str) -> Iterator[Check]:
    importlib.import_module(name)
    yield Check(f"import {name}", "ok", "works")


def _processor() -> Iterator[Check]:
    import psutil

    cpus = cpu_count()
    yield outcome("CPUs", cpus > 1, f"{cpus}", "1: trials run one after another", "warn")
    total = min(psutil.virtual_memory().total, _container_limit()) / GIB
    text, problem = f"{total:.1f} GiB", f"{total:.1f} GiB, below 8 GiB: lower tune.max_concurrent"
    yield outcome("memory", total >= 7.5, text, problem, "warn")  # a machine with 8 GiB reports slightly less


def _accelerators() -> Iterator[Check]:
    import torch

    from detector.utils.precision import resolve_precision

    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    fits = bool(names) or shutil.which("nvidia-smi") is None
    problem = "nvidia-smi exists, but torch finds no GPU: driver and CUDA version may not fit"
    yield outcome("GPU", fits, names or "none, training uses the CPU", problem, "warn")
    precision = resolve_precision("auto", use_gpu=torch.cuda.is_available())
    problem = f"not supported by the hardware, training in {precision}"
    yield outcome("bf16", precision == "bf16-mixed", "supported", problem, "warn")


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    status: Status = "ok" if free >= 5 * GIB else "warn" if free >= GIB else "FAIL"
    yield Check("disk", status, text if status == "ok" else f"{text}: runs and checkpoints need 5 GiB")


def _tracking_store() -> Iterator[Check]:
    from evforge.tracking.store import default_uri
    from evforge.tracking.tracker import Tracker

    uri = default_uri()
    with tempfile.TemporaryFile(dir=Path.cwd()):  # raises if the folder is not writable
        pass
    if Path(uri.removeprefix("sqlite:///")).exists():
        Tracker(uri, "evforge")
    yield Check("tracking store", "ok", uri)


PROBES: dict[str, Probe] = {
    "python": _python,
    "packages": _packages,
    "one Lightning": _one_lightning,
    "torch + torchvision": _torch_pair,
    **{f"import {name}": partial(_import, name) for name in IMPORTED},
    "CPUs and memory": _processor,
    "GPU and bf16": _accelerators,
    "disk": _disk,
    "tracking store": _tracking_store,
}


def _requirements(package: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """Yield the requirements of a package and of these extras of the package, except those for other platforms."""
    for line in importlib.metadata.requires(package) or []:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or ("",)):
            yield needed


def _container_limit() -> float:
    """Return the memory limit of this process's control group in bytes; infinity if there is no limit."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # the file contains "max", or there are no control groups
        return float("inf")
