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
from evforge import EvForgeError
from evforge.cluster import preflight
from evforge.cluster.checks import Check, Probe, Status, print_check, print_checks, version_of
from evforge.cluster.jobs import connect, follow, use_token
from evforge.cluster.session import cpu_count
from evforge.cluster.shipping import launch, unshared

__all__ = ["Check", "doctor"]

GIB = 2**30
IMPORTED = ("pytorch_lightning", "ray", "mlflow", "optuna")


def doctor(config: Config | None = None, address: str | None = None) -> int:
    """Check everything that EvForge needs and print one line per check.

    Args:
        config: settings of the planned command; None to check no settings.
        address: job server of the cluster for the command; the cluster that RAY_ADDRESS names if None.

    Returns:
        1 if a check FAILs, else 0.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        use_token()  # before a probe imports ray
    failed = sum(print_checks(name, probe) for name, probe in PROBES.items())
    if address:
        print(f"\ncluster at {address}", flush=True)
        failed += _on_cluster(config, address)
    elif config is not None:
        failed += print_checks("settings", partial(preflight.local_checks, config))
    print(f"{failed} problem(s): see the lines with FAIL" if failed else "everything that EvForge needs is available")
    return 1 if failed else 0


def _on_cluster(config: Config | None, address: str) -> int:
    """Check a cluster as its driver, or by a job if `address` is a job server; return the number that FAIL."""
    versions = preflight.installed()
    if not address.startswith(("http://", "https://")):
        return print_checks("cluster", partial(preflight.cluster_checks, config, versions))
    failed = print_checks("settings", partial(_unshared, config)) if config is not None else 0
    if not failed:  # otherwise the job would search these paths in its temporary folder
        request = {"versions": versions, "settings": None if config is None else config.to_flat()}
        failed += _ask_by_job(address, request)
    return failed


def _unshared(config: Config) -> Iterator[Check]:
    for problem in unshared(config):
        key, _, text = problem.partition(": ")
        yield Check(key, "FAIL", text)


def _ask_by_job(address: str, request: dict) -> int:
    """Run `evforge.cluster.preflight` on the cluster, which prints its checks; return the number that FAIL."""
    try:
        client = connect(address)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "request.json"
            file.write_text(json.dumps(request))
            job_id = launch(client, "doctor", ["evforge.cluster.preflight", file.name], {file.name: file})
        return abs(follow(client, job_id))
    except EvForgeError as error:
        return print_check(Check("job server", "FAIL", str(error)))


def _python() -> Iterator[Check]:
    allowed = importlib.metadata.metadata("evforge")["Requires-Python"]
    found = platform.python_version()
    fits = found in SpecifierSet(allowed)
    yield Check("python", "ok" if fits else "FAIL", f"{found}" if fits else f"{found}, needed: {allowed}")


def _packages() -> Iterator[Check]:
    """Check every requirement of the base installation and of the extra `platform`."""
    for needed in _requirements("evforge", {"platform"}):
        found = version_of(needed.name)
        if found is None:
            yield Check(needed.name, "FAIL", f"not installed: {_install(needed)}")
            continue
        fits = needed.specifier.contains(found, prereleases=True)
        missing = [part.name for part in _requirements(needed.name, needed.extras) if version_of(part.name) is None]
        if not fits:
            yield Check(needed.name, "FAIL", f"{found}, needed: {needed.specifier}: {_install(needed)}")
        elif missing:  # for example, without its dashboard Ray hangs after the first trial that is stopped early
            yield Check(needed.name, "FAIL", f"{found} without {', '.join(missing)}: {_install(needed)}")
        else:
            yield Check(needed.name, "ok", found)


def _one_lightning() -> Iterator[Check]:
    found = version_of("lightning")
    if found is None:
        yield Check("one Lightning", "ok", "pytorch_lightning alone")
    else:  # Ray then subclasses the strategies of `lightning`, which pytorch_lightning does not accept
        yield Check("one Lightning", "FAIL", f"lightning {found} beside pytorch_lightning: pip uninstall lightning")


def _torch_pair() -> Iterator[Check]:
    import torch
    from torchvision.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    kept = nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()
    fits = kept == [1, 2]
    yield Check(
        "torch + torchvision", "ok" if fits else "FAIL", "nms runs" if fits else f"nms keeps {kept}, not [1, 2]"
    )


def _import(name: str) -> Iterator[Check]:
    importlib.import_module(name)
    yield Check(f"import {name}", "ok", "works")


def _processor() -> Iterator[Check]:
    import psutil

    cpus = cpu_count()
    yield Check("CPUs", "ok" if cpus > 1 else "warn", f"{cpus}" if cpus > 1 else "1: trials run one after another")
    total = min(psutil.virtual_memory().total, _container_limit())
    text = f"{total / GIB:.1f} GiB"
    enough = total >= 7.5 * GIB  # a machine of 8 GiB reports slightly less
    yield Check(
        "memory", "ok" if enough else "warn", text if enough else f"{text}, below 8 GiB: lower tune.max_concurrent"
    )


def _accelerators() -> Iterator[Check]:
    import torch

    from detector.utils.precision import resolve_precision

    gpu = torch.cuda.is_available()
    if gpu:
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Check("GPU", "ok", ", ".join(names))
    elif shutil.which("nvidia-smi"):
        yield Check("GPU", "warn", "nvidia-smi exists, but torch finds no GPU: driver and CUDA version may not fit")
    else:
        yield Check("GPU", "ok", "none, training uses the CPU")
    precision = resolve_precision("auto", use_gpu=gpu)
    bf16 = precision == "bf16-mixed"
    yield Check(
        "bf16",
        "ok" if bf16 else "warn",
        "supported" if bf16 else f"not supported by the hardware, training in {precision}",
    )


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    status: Status = "ok" if free >= 5 * GIB else "warn" if free >= GIB else "FAIL"
    yield Check("disk", status, text if status == "ok" else f"{text}: runs and checkpoints need 5 GiB")


def _tracking_store() -> Iterator[Check]:
    from evforge.tracking.tracker import Tracker, default_uri

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
    """Requirements of a package and of the named extras."""
    for line in importlib.metadata.requires(package) or []:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or ("",)):
            yield needed


def _install(needed: Requirement) -> str:
    """Command that installs a requirement."""
    extras = f"[{','.join(sorted(needed.extras))}]" if needed.extras else ""
    return f"pip install '{needed.name}{extras}{needed.specifier}'"


def _container_limit() -> float:
    """Memory limit of the control group in bytes; infinity without a limit."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # "max", or no control groups
        return float("inf")
