import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from detector.config import Config
from evforge import EvForgeError
from evforge.cluster.session import Resources, cpu_count
from evforge.tracking.tracker import Tracker
from evforge.training.callbacks import ProgressLine, ReportMetrics
from evforge.training.run_folder import CHECKPOINT_NAME, read_record, unique_folder
from evforge.training.train import (
    FAILURE_FILE,
    _reason,
    _use_node_interface,
    _worker_loop,
    check_config,
    fit,
    run_workers,
    train,
)


def run_fit(config, tmp_path, name, ckpt_path=None, threads=1):
    """Train in this process; reports and checkpoints by epoch."""
    reports = []

    def report(metrics, folder):
        reports.append(metrics)
        target = tmp_path / f"{name}-{metrics['epoch']}.ckpt"
        target.write_bytes((folder / CHECKPOINT_NAME).read_bytes())

    fit(config, [ReportMetrics(report)], ckpt_path, threads=threads)
    return reports


def test_fit_reports_every_metric_of_every_epoch_and_resumes_equal(tiny_config, tmp_path):
    config = check_config(tiny_config).with_overrides(
        {"data.augment": True, "optim.warmup_epochs": 0.3, "optim.lr_scheduler": "cosine", "optim.weight_decay": 0.25}
    )
    whole = run_fit(config, tmp_path, "whole")
    assert [report["epoch"] for report in whole] == [1, 2]
    expected = {"train_loss", "val_mean_ap", "val_mean_ap50", "val_mean_ap75", "val_mean_ap_small", "val_ap/block"}
    for report in whole:
        assert expected <= report.keys()
        assert report["fingerprint"] == config.fingerprint()
    resumed = run_fit(config, tmp_path, "resumed", str(tmp_path / "whole-1.ckpt"))
    measured = {"train_frames_per_s", "train_epoch_s", "train_memory_mb"}  # differ from run to run
    (again,), (_, second) = resumed, whole
    assert again.keys() == second.keys() > measured
    assert {key: again[key] for key in again.keys() - measured} == {
        key: second[key] for key in second.keys() - measured
    }
    assert 0 < whole[0]["val_mean_ap"] != whole[1]["val_mean_ap"]
    first, second = (torch.load(tmp_path / f"{name}-2.ckpt", weights_only=True) for name in ("whole", "resumed"))
    assert all(torch.equal(value, second["state_dict"][key]) for key, value in first["state_dict"].items())
    groups = [content["optimizer_states"][0]["param_groups"] for content in (first, second)]
    assert groups[0] == groups[1] and [group["weight_decay"] for group in groups[1]] == [0.25]


def test_fit_reports_only_epochs_that_were_validated(tiny_config, tmp_path):
    config = check_config(tiny_config.with_overrides({"train.max_epochs": 3, "train.val_every": 2}))
    assert [report["epoch"] for report in run_fit(config, tmp_path, "some")] == [2]


def test_fit_prints_a_line_per_epoch(tiny_config, tmp_path, capsys):
    config = check_config(tiny_config.with_overrides({"train.max_epochs": 3, "train.val_every": 2}))
    fit(config, [ProgressLine(every_s=float("inf"))], threads=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert ["  mAP 0." in line for line in lines] == [False, True, False]
    weight = config.loss.loc_weight
    for line in lines:
        loss, classes, boxes = map(float, re.search(r"loss (\S+) \(class (\S+), box (\S+)\)", line).groups())
        assert loss == pytest.approx(classes + weight * boxes, abs=2e-3) and min(classes, boxes) > 0


def test_an_epoch_is_over_in_its_checkpoint_whatever_the_number_of_batches(tiny_config, tmp_path):
    config = check_config(tiny_config)
    run_fit(config.with_overrides({"train.limit_train_batches": 6}), tmp_path, "short")
    resumed = run_fit(config, tmp_path, "resumed", str(tmp_path / "short-1.ckpt"))
    assert [report["epoch"] for report in resumed] == [2]


def test_pretrained_weights_are_taken_over(tiny_config, tmp_path):
    config = check_config(tiny_config.with_overrides({"train.max_epochs": 1}))
    run_fit(config, tmp_path, "source")
    changes = {"train.pretrained": str(tmp_path / "source-1.ckpt"), "optim.lr": 1e-12, "train.seed": 5}
    run_fit(check_config(config.with_overrides(changes)), tmp_path, "target")
    source, target = (
        torch.load(tmp_path / f"{name}-1.ckpt", weights_only=True)["state_dict"] for name in ("source", "target")
    )
    (key,) = [key for key in source if key.endswith("cls_head.0.weight")]
    assert torch.allclose(source[key], target[key], atol=1e-6)


def test_check_config_fills_in_the_classes(tiny_config):
    assert check_config(tiny_config).data.classes == ["block", "tower"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.dataset_path": ""}, "data.dataset_path: got '', allowed: a dataset folder"),
        ({"data.dataset_path": "/nowhere"}, "/nowhere"),
        ({"data.classes": ["bicycle"]}, "bicycle"),
        ({"train.val_every": 3}, "train.val_every: got 3, allowed: at most train.max_epochs"),
        ({"train.pretrained": "nowhere.ckpt"}, "train.pretrained: nowhere.ckpt: no such checkpoint"),
        ({"data.height": 96}, "height"),
    ],
)
def test_settings_are_checked_before_anything_starts(tiny_config, tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(tiny_config.with_overrides(changes))
    assert not (tmp_path / "runs").exists()


def test_folders_are_new(tmp_path):
    first, second = unique_folder(str(tmp_path), "train"), unique_folder(str(tmp_path), "train")
    assert first != second
    assert first.is_dir() and second.is_dir()


def test_storage_must_be_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"train.storage: got 's3://bucket', allowed: a folder"):
        unique_folder("s3://bucket", "train")


def test_no_run_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not the folder of a run, which contains run.json"):
        read_record(tmp_path)


def test_use_gpu():
    assert not Resources(((2, 0),)).use_gpu("auto")
    assert Resources(((2, 1),)).use_gpu("auto")
    assert not Resources(((2, 1),)).use_gpu(False)
    with pytest.raises(EvForgeError, match=r"train.use_gpu: got True, .* no GPU"):
        Resources(((2, 0),)).use_gpu(True)


def kill_a_worker_after_its_first_checkpoint(storage, killed, pause_s=0.0):
    while not list(Path(storage).glob("*/checkpoint_manager_snapshot.json")):  # Ray knows of one
        time.sleep(0.05)
    time.sleep(pause_s)
    workers = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            workers += [child] if "RayTrainWorker" in child.name() else []
    killed.append(workers[-1].pid)
    os.kill(workers[-1].pid, signal.SIGKILL)


@pytest.mark.soak
def test_a_worker_killed_in_mid_epoch_changes_no_bit(tiny_config, tmp_path, ray_head):
    config = tiny_config.with_overrides({"train.max_epochs": 3, "data.augment": True, "train.workers": 1})
    whole = run_fit(check_config(config), tmp_path, "whole", threads=cpu_count())
    killed = []
    killer = threading.Thread(
        target=kill_a_worker_after_its_first_checkpoint, args=(config.train.storage, killed, 0.3), daemon=True
    )
    killer.start()
    result = train(config)
    assert len(killed) == 1
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)
    history = tracker.metric_history(result.run_id, "val_mean_ap")
    assert history == [(report["epoch"], report["val_mean_ap"]) for report in whole]
    last = max(path.parent for path in result.path.glob(f"checkpoint_*/{CHECKPOINT_NAME}")) / CHECKPOINT_NAME
    expected, found = (torch.load(path, weights_only=True)["state_dict"] for path in (tmp_path / "whole-3.ckpt", last))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.soak
def test_a_training_goes_on_when_a_node_is_lost(tiny_config, tmp_path):
    """In another process: this one has its own Ray already."""
    config = tmp_path / "config.yaml"
    changes = {"train.workers": 2, "train.min_workers": 1, "train.max_epochs": 12}
    config.write_text(tiny_config.with_overrides(changes).to_yaml())
    done = subprocess.run(
        [sys.executable, "-c", TWO_NODES, str(config), str(tmp_path / "runs")],
        env={**os.environ, **IMPATIENT},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run_id, sizes = done.stdout.splitlines()[-1].split(maxsplit=1)
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    assert tracker.run_info(run_id).status == "FINISHED"
    assert tracker.metric_history(run_id, "val_mean_ap")[-1][0] == 12
    assert sizes == "2 nodes, then 1"


IMPATIENT = {
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "8",
}
"""Ray's own patience with nodes that do not answer adds up to minutes."""

TWO_NODES = """
import sys, threading, time
from pathlib import Path
import evforge  # sets Ray's environment
import ray
from ray.cluster_utils import Cluster
from detector.config import Config
from evforge.training.train import train

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
import os
os.environ["RAY_ADDRESS"] = cluster.address
nodes = []

def lose_a_node():
    while not list(Path(sys.argv[2]).glob("*/checkpoint_manager_snapshot.json")):
        time.sleep(0.1)
    nodes.append(len(cluster.list_all_nodes()))
    cluster.remove_node(second, allow_graceful=False)
    nodes.append(len(cluster.list_all_nodes()))

threading.Thread(target=lose_a_node, daemon=True).start()
result = train(Config.load(sys.argv[1]))
cluster.shutdown()
print(result.run_id, f"{nodes[0]} nodes, then {nodes[1]}")
"""


@pytest.mark.soak
def test_two_ranks_survive_a_kill_and_the_run_is_resumed(tiny_config, ray_head):
    config = tiny_config.with_overrides({"train.workers": min(2, ray_head.cpus), "train.max_epochs": 4})
    killed = []
    killer = threading.Thread(
        target=kill_a_worker_after_its_first_checkpoint, args=(config.train.storage, killed), daemon=True
    )
    killer.start()
    result = train(config)
    assert len(killed) == 1
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)
    points = tracker.client.get_metric_history(result.run_id, "val_mean_ap")
    assert [point.step for point in points].count(1) == 1  # it did not start again
    assert [step for step, _ in tracker.metric_history(result.run_id, "val_mean_ap")] == [1, 2, 3, 4]
    assert tracker.run_info(result.run_id).status == "FINISHED"
    assert Config.load(result.path / "config.yaml") == check_config(config)
    history = tracker.metric_history(result.run_id, "val_mean_ap")
    assert result.metrics["val_mean_ap"] == max(value for _, value in history)
    checkpoint = torch.load(result.best_checkpoint, weights_only=True)
    assert checkpoint["epoch"] + 1 == result.metrics["epoch"]

    # Resumed with a loss that overflows: it goes on after the last epoch, and fails there with its reason.
    overflow = {"train.max_epochs": 5, "train.workers": 1, "loss.loc_weight": 1e39, "train.max_failures": 0}
    with pytest.raises(EvForgeError, match=r"training failed: the loss is inf in epoch 4, batch 0"):
        train(config.with_overrides(overflow), resume=result.path)
    assert tracker.run_info(result.run_id).status == "FAILED"


@pytest.mark.parametrize(("given", "used"), [(None, 7), (2, 2), (0, 0)])
def test_the_number_of_retries_is_that_of_the_settings_or_of_the_caller(
    tiny_config, tmp_path, monkeypatch, given, used
):
    made = []

    class Trainer:
        def __init__(self, loop, **options):
            made.append(options)

        def fit(self):
            return "result"

    monkeypatch.setattr("ray.train.torch.TorchTrainer", Trainer)
    config = tiny_config.with_overrides({"train.max_failures": 7, "train.workers": 3, "train.min_workers": 2})
    assert run_workers(config, tmp_path, False, max_failures=given) == "result"
    (options,) = made
    failures = options["run_config"].failure_config
    assert (failures.max_failures, failures.controller_failure_limit) == (used, used)
    assert options["scaling_config"].num_workers == (2, 3)


def test_a_failure_that_would_come_again_is_not_waited_for(tmp_path):
    (tmp_path / FAILURE_FILE).write_text("the loss is nan")
    with pytest.raises(EvForgeError, match="the loss is nan"):
        _worker_loop({"folder": tmp_path})


def test_reason_of_a_failure(tmp_path):
    from ray.train import WorkerGroupError

    error = WorkerGroupError("rank 1 failed", {1: RuntimeError("Traceback ...\n  OutOfMemoryError: no memory")})
    assert _reason(error, tmp_path) == "OutOfMemoryError: no memory"
    (tmp_path / FAILURE_FILE).write_text("the loss is nan")
    assert _reason(error, tmp_path) == "the loss is nan"


def test_more_workers_than_the_machine_has(tiny_config, ray_head):
    with pytest.raises(EvForgeError, match=r"train.workers: got 999, allowed: at most the \d+ CPU cores"):
        train(tiny_config.with_overrides({"train.workers": 999}))


@pytest.mark.parametrize(("before", "after"), [(None, "lo"), ("ib0", "ib0")])
def test_gloo_uses_the_interface_of_the_address_by_which_nodes_know_each_other(monkeypatch, before, after):
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", before or "x")
    if before is None:
        monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    _use_node_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == after
