"""`evforge doctor`: what is installed, reachable or mismatched, on this machine and on a cluster."""

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
from evforge.cluster.checks import Check, Probe, Status, print_check, print_checks
from evforge.cluster.jobs import connect, follow, use_token
from evforge.cluster.session import cpu_count

__all__ = ["Check", "doctor"]

GIB = 2**30
IMPORTED = ("pytorch_lightning", "ray", "mlflow", "optuna")


def doctor(config: Config | None = None, address: str | None = None) -> int:
    """Look at everything EvForge needs and print a line a check.

    Args:
        config: settings of a command that is to run; None to leave out what they need.
        address: job server of the cluster it is to run on; the cluster that RAY_ADDRESS names if None.

    Returns:
        0, or 1 if a check FAILs.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        use_token()  # before a probe imports ray
    failed = sum(print_checks(name, probe) for name, probe in PROBES.items())
    if address:
        print(f"\ncluster at {address}", flush=True)
        failed += _on_cluster(config, address)
    elif config is not None:
        from evforge.cluster.preflight import local_checks

        failed += print_checks("settings", partial(local_checks, config))
    print(f"{failed} problem(s): see the lines with FAIL" if failed else "everything EvForge needs is there")
    return 1 if failed else 0


def _on_cluster(config: Config | None, address: str) -> int:
    """How many checks FAIL on a cluster: as its driver, or by a job where its job server is known."""
    from evforge.cluster import preflight

    versions = preflight.installed()
    if not address.startswith(("http://", "https://")):
        return print_checks("cluster", partial(preflight.cluster_checks, config, versions))
    failed = print_checks("settings", partial(_unshared, config)) if config is not None else 0
    if not failed:  # or the job would look for them in its temporary folder
        request = {"versions": versions, "settings": None if config is None else config.to_flat()}
        failed += _ask_by_job(address, request)
    return failed


def _unshared(config: Config) -> Iterator[Check]:
    from evforge.cluster.shipping import unshared

    for problem in unshared(config):
        key, _, text = problem.partition(": ")
        yield Check(key, "FAIL", text)


def _ask_by_job(address: str, request: dict) -> int:
    """Run `evforge.cluster.preflight` on the cluster, which prints its own lines; how many FAIL."""
    from evforge.cluster.shipping import launch

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
    """Every requirement of the base installation and of the extra `platform`, with its version."""
    for needed in _requirements("evforge", {"platform"}):
        found = _version(needed.name)
        if found is None:
            yield Check(needed.name, "FAIL", f"not installed: {_install(needed)}")
            continue
        fits = needed.specifier.contains(found, prereleases=True)
        lacking = [part.name for part in _requirements(needed.name, needed.extras) if _version(part.name) is None]
        if not fits:
            yield Check(needed.name, "FAIL", f"{found}, needed: {needed.specifier}: {_install(needed)}")
        elif lacking:  # without its dashboard, for one, Ray hangs after the first trial that is stopped early
            yield Check(needed.name, "FAIL", f"{found} without {', '.join(lacking)}: {_install(needed)}")
        else:
            yield Check(needed.name, "ok", found)


def _one_lightning() -> Iterator[Check]:
    found = _version("lightning")
    if found is None:
        yield Check("one Lightning", "ok", "pytorch_lightning alone")
    else:  # Ray subclasses the strategies of `lightning` if it is there, which pytorch_lightning does not accept
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
    enough = total >= 7.5 * GIB  # a machine of 8 GiB shows a little less
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
        yield Check("GPU", "warn", "nvidia-smi is there, but torch sees no GPU: driver and torch's CUDA may not fit")
    else:
        yield Check("GPU", "ok", "none, the CPU trains")
    precision = resolve_precision("auto", use_gpu=gpu)
    bf16 = precision == "bf16-mixed"
    yield Check(
        "bf16", "ok" if bf16 else "warn", "in hardware" if bf16 else f"not in hardware, training in {precision}"
    )


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    status: Status = "ok" if free >= 5 * GIB else "warn" if free >= GIB else "FAIL"
    yield Check("disk", status, text if status == "ok" else f"{text}: runs and checkpoints need 5 GiB")


def _tracking_store() -> Iterator[Check]:
    from evforge.tracking.tracker import Tracker, default_uri

    uri = default_uri()
    with tempfile.TemporaryFile(dir=Path.cwd()):  # raises where the folder cannot be written
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
    """What a package needs: always, and for the named extras."""
    for line in importlib.metadata.requires(package) or []:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or ("",)):
            yield needed


def _install(needed: Requirement) -> str:
    """The command that installs a requirement."""
    extras = f"[{','.join(sorted(needed.extras))}]" if needed.extras else ""
    return f"pip install '{needed.name}{extras}{needed.specifier}'"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _container_limit() -> float:
    """Bytes that the control group allows; no limit where there is none."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # "max", or no control groups
        return float("inf")
