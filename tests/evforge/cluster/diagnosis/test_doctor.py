import importlib.metadata

import pytest

from detector.config import Config
from evforge.cluster import jobs
from evforge.cluster.diagnosis import doctor as module
from evforge.cluster.diagnosis.checks import checks_of
from evforge.cluster.diagnosis.doctor import Check, doctor


@pytest.fixture
def installed(monkeypatch) -> dict[str, str | None]:
    """Versions that replace those of installed packages."""
    versions: dict[str, str | None] = {}
    real = importlib.metadata.version

    def version(name):
        found = versions[name] if name in versions else real(name)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(module.importlib.metadata, "version", version)
    return versions


def _by_name(probe) -> dict[str, Check]:
    return {check.name: check for check in probe()}


def test_this_machine_is_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert doctor() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "everything that EvForge needs is available"
    assert f"tracking store           ok    sqlite:///{tmp_path}/mlflow.db" in lines
    assert not any("FAIL" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_one_failure_is_told_and_counted_and_the_rest_goes_on(monkeypatch, capsys):
    def broken():
        raise ImportError("libcuda.so:\n not found")

    monkeypatch.setattr(module, "PROBES", {"GPU": broken, "disk": lambda: iter([Check("disk", "warn", "little")])})
    assert doctor() == 1
    assert capsys.readouterr().out.splitlines() == [
        "GPU                      FAIL  ImportError: libcuda.so: not found",
        "disk                     warn  little",
        "1 problem(s): see the lines with FAIL",
    ]


def test_packages_of_the_platform_are_looked_at(installed):
    checks = _by_name(module._packages)
    assert {"torch", "pytorch-lightning", "ray", "mlflow", "optuna", "matplotlib"} <= checks.keys()
    assert {check.status for check in checks.values()} == {"ok"}


def test_too_old_and_missing_packages_fail(installed):
    installed.update({"mlflow": "2.9.0", "optuna": None})
    checks = _by_name(module._packages)
    assert checks["mlflow"] == Check("mlflow", "FAIL", "2.9.0, needed: <4,>=3.10: pip install 'mlflow<4,>=3.10'")
    assert checks["optuna"] == Check("optuna", "FAIL", "not installed: pip install 'optuna<6,>=4.5'")


def test_ray_without_its_dashboard_fails(installed):
    installed["aiohttp_cors"] = None
    ray = _by_name(module._packages)["ray"]
    assert ray.status == "FAIL" and " without aiohttp_cors: pip install 'ray[default,train,tune]<" in ray.detail


def test_second_lightning_is_refused(installed):
    assert _by_name(module._one_lightning)["one Lightning"].status == "ok"
    installed["lightning"] = "2.6.0"
    assert _by_name(module._one_lightning)["one Lightning"] == Check(
        "one Lightning", "FAIL", "lightning 2.6.0 beside pytorch_lightning: pip uninstall lightning"
    )


def test_python_outside_the_range_fails(monkeypatch):
    monkeypatch.setattr(module.platform, "python_version", lambda: "3.14.0")
    (check,) = module._python()
    assert check.status == "FAIL" and check.detail.startswith("3.14.0, needed: ")


def test_torchvision_that_computes_wrongly_fails(monkeypatch):
    import torch
    import torchvision

    monkeypatch.setattr(torchvision.ops, "nms", lambda *args: torch.tensor([0]))
    (check,) = module._torch_pair()
    assert check.status == "FAIL" and check.detail == "nms keeps [0], not [1, 2]"


def test_small_machines_are_warned(monkeypatch):
    monkeypatch.setattr(module, "cpu_count", lambda: 1)
    monkeypatch.setattr(module, "_container_limit", lambda: 4 * 2**30)
    checks = _by_name(module._processor)
    assert checks["CPUs"] == Check("CPUs", "warn", "1: trials run one after another")
    assert checks["memory"].status == "warn" and checks["memory"].detail.startswith("4.0 GiB, below 8 GiB")


@pytest.mark.parametrize(
    ("names", "tool", "gpu"),
    [
        ([], None, Check("GPU", "ok", "none, training uses the CPU")),
        ([], "/usr/bin/nvidia-smi", Check("GPU", "warn", "nvidia-smi exists, but torch finds no GPU: driver and CUDA")),
        (["A", "B"], "/usr/bin/nvidia-smi", Check("GPU", "ok", "A, B")),
    ],
)
def test_gpus(monkeypatch, names, tool, gpu):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    monkeypatch.setattr(module.shutil, "which", lambda name: tool)
    found = _by_name(module._accelerators)
    assert (found["GPU"].status, found["GPU"].detail[: len(gpu.detail)]) == (gpu.status, gpu.detail)
    assert found.keys() == {"GPU", "bf16"}


@pytest.mark.parametrize(("gib", "status"), [(50, "ok"), (3, "warn"), (0.5, "FAIL")])
def test_disk(monkeypatch, gib, status):
    usage = module.shutil.disk_usage("/")._replace(free=int(gib * 2**30))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    (check,) = module._disk()
    assert check.status == status and f"{gib:.1f} GiB free" in check.detail


def test_folder_that_cannot_be_written_fails(monkeypatch, capsys):
    def refuse(**kwargs):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    (check,) = checks_of("tracking store", module._tracking_store)
    assert check == Check("tracking store", "FAIL", "PermissionError: read-only file system")


def test_damaged_database_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_text("this is no database, " * 100)
    (check,) = checks_of("tracking store", module._tracking_store)
    assert check.status == "FAIL"


@pytest.fixture
def nothing_local(monkeypatch):
    """Only what concerns a cluster is looked at, and none is named."""
    monkeypatch.setattr(module, "PROBES", {})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for owner in (module, jobs):
        monkeypatch.setattr(owner, "use_token", lambda: None)  # it would hold for this process, and for other tests


def test_settings_are_looked_at_where_they_are_to_be_used(nothing_local, tmp_path, capsys):
    config = Config().with_overrides({"data.dataset_path": str(tmp_path / "no"), "train.use_gpu": False})
    assert doctor(config) == 1
    assert "data.dataset_path        FAIL" in capsys.readouterr().out


def test_paths_that_a_job_would_lose_fail_before_one_is_submitted(nothing_local, capsys):
    assert doctor(Config(), "http://127.0.0.1:1") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "cluster at http://127.0.0.1:1"
    assert [line.split()[:2] for line in lines[2:]] == [
        ["data.dataset_path", "FAIL"],
        ["train.storage", "FAIL"],
        ["track.tracking_uri", "FAIL"],
        ["3", "problem(s):"],
    ]


def test_a_cluster_that_does_not_answer_fails(nothing_local, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "http://ada:pw7@127.0.0.1:1")
    assert doctor() == 1
    printed = capsys.readouterr().out
    assert "job server               FAIL  http://127.0.0.1:1: no Ray answers" in printed and "pw7" not in printed
