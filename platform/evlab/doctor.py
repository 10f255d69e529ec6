"""`evlab doctor`: what is installed, reachable or mismatched."""

import importlib
import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from evlab.runtime import cpu_count

__all__ = ["Check", "doctor"]

Status = Literal["ok", "warn", "FAIL"]
GIB = 2**30
IMPORTED = ("pytorch_lightning", "ray", "mlflow", "optuna")


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Args:
        name: what was looked at
        status: ok, warn (works, but with limits) or FAIL
        detail: what was found and, unless it is ok, what to do
    """

    name: str
    status: Status
    detail: str


def doctor() -> int:
    """Look at everything EvLab needs and print a line a check.

    Returns:
        0, or 1 if a check FAILs.
    """
    failed = 0
    for name, probe in PROBES.items():
        for check in _checks(name, probe):
            print(f"{check.name:<24} {check.status:<4}  {check.detail}", flush=True)
            failed += check.status == "FAIL"
    print(f"{failed} problem(s): see the lines with FAIL" if failed else "everything EvLab needs is there")
    return 1 if failed else 0


def _checks(name: str, probe: "Probe") -> Iterator[Check]:
    try:
        yield from probe()
    except Exception as error:  # a broken installation raises anything; the other lines must still be printed
        yield Check(name, "FAIL", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _python() -> Iterator[Check]:
    allowed = importlib.metadata.metadata("evlab")["Requires-Python"]
    found = platform.python_version()
    fits = found in SpecifierSet(allowed)
    yield Check("python", "ok" if fits else "FAIL", f"{found}" if fits else f"{found}, needed: {allowed}")


def _packages() -> Iterator[Check]:
    """Every requirement of the base installation and of the extra `platform`, with its version."""
    for needed in _requirements("evlab", {"platform"}):
        found = _version(needed.name)
        if found is None:
            yield Check(needed.name, "FAIL", f'not installed, needed: {needed}; install "evlab[platform]"')
            continue
        fits = needed.specifier.contains(found, prereleases=True)
        lacking = [part.name for part in _requirements(needed.name, needed.extras) if _version(part.name) is None]
        if not fits:
            yield Check(needed.name, "FAIL", f"{found}, needed: {needed.specifier}")
        elif lacking:  # without its dashboard, for one, Ray hangs after the first trial that is stopped early
            yield Check(needed.name, "FAIL", f"{found} without {', '.join(lacking)}; install {str(needed)!r}")
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

    from detector.lightning_model import resolve_precision

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
    from evlab.tracking import Tracker, default_uri

    uri = default_uri()
    with tempfile.TemporaryFile(dir=Path.cwd()):  # raises where the folder cannot be written
        pass
    if Path(uri.removeprefix("sqlite:///")).exists():
        Tracker(uri, "evlab")
    yield Check("tracking store", "ok", uri)


Probe = Callable[[], Iterator[Check]]
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
