"""Training: `fit` runs Lightning in this process, and `train` runs Lightning in the workers of Ray Train."""

import itertools
import logging
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config
from detector.data.label_map import class_names
from evforge import EvForgeError, last_line
from evforge.cluster.credentials import load
from evforge.cluster.placement import selector
from evforge.cluster.ray_compat import failure_text, torch_config, without_group_cleaner
from evforge.cluster.session import Resources, cpu_count
from evforge.display.epoch_bar import epoch_bar
from evforge.tracking.system_metrics import system_metrics_wanted
from evforge.training.failures import TrainingFailed, failure_printer, is_temporary
from evforge.training.run_folder import (
    BEST_CHECKPOINT,
    BEST_KEPT,
    CheckpointError,
    checkpoint_after_broken_list,
    checkpoint_file,
    copy_checkpoint,
    logged_metrics,
    note_failure,
    whole_checkpoints,
)

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import ray.train

__all__ = ["TrainResult", "check_config", "fit", "quiet", "run_workers", "train"]

FAILURE_FILE, PROGRESS_FILE = "failure.txt", "progress.json"


@dataclass(frozen=True)
class TrainResult:
    """Result of a training.

    Args:
        best_checkpoint: Lightning checkpoint of the epoch with the best `val_mean_ap`
        metrics: metrics of that epoch
        run_id: id of the MLflow run
        path: folder of the run
    """

    best_checkpoint: Path
    metrics: dict[str, float]
    run_id: str
    path: Path


def check_config(config: Config, metric: str | None = None) -> Config:
    """Check everything in a configuration that can be checked before a worker starts.

    Args:
        config: the configuration.
        metric: metric of a search. The labels of the validation split must be sufficient to measure this metric.

    Returns:
        The configuration with the class names of the dataset and with the absolute path of the dataset, as workers may
        run in other folders.

    Raises:
        ValueError: a setting does not fit the dataset or another setting.
        FileNotFoundError: the dataset or a part of it does not exist.
    """
    from detector.data_factory import psee_data
    from detector.evaluation.quantities import label_counts
    from detector.lightning_model import read_checkpoint
    from evforge.training.dry_step import check_parts

    if not config.data.dataset_path:
        raise ValueError("data.dataset_path: got '', allowed: a dataset folder, see `evforge build`")
    if config.train.val_every > config.train.max_epochs:
        raise ValueError(
            f"train.val_every: got {config.train.val_every}, allowed: at most train.max_epochs "
            f"({config.train.max_epochs}), otherwise nothing is measured"
        )
    if config.optim.warmup_epochs >= config.train.max_epochs:
        raise ValueError(
            f"optim.warmup_epochs: got {config.optim.warmup_epochs}, allowed: below train.max_epochs "
            f"({config.train.max_epochs})"
        )
    if config.train.pretrained is not None:
        if not Path(config.train.pretrained).is_file():
            raise FileNotFoundError(f"train.pretrained: {config.train.pretrained}: no such checkpoint")
        read_checkpoint(config.train.pretrained)
    psee_data(config.to_hparams(), "train")
    check_parts(config)
    counts = {f"val_{name}": count for name, count in label_counts(config, "val").items()}
    measured = ["train_loss", *(name for name, count in counts.items() if count)]
    if metric is not None and metric not in measured:
        reason = "which no label of the validation split can measure, " if metric in counts else ""
        raise ValueError(f"tune.metric: got {metric!r}, {reason}allowed: {', '.join(measured)}")
    dataset = str(Path(config.data.dataset_path).absolute())
    return config.with_overrides({"data.classes": class_names(config.data), "data.dataset_path": dataset})


def fit(
    config: Config,
    callbacks: Sequence["pl.Callback"],
    ckpt_path: str | None = None,
    *,
    threads: int,
    use_gpu: bool = False,
    options: Mapping[str, Any] | None = None,
) -> "pl.Trainer":
    """Train in this process.

    Args:
        config: checked configuration.
        callbacks: Lightning callbacks. They do all reporting and saving.
        ckpt_path: checkpoint from which the training resumes. It sets the weights, the moments of Adam and the epoch.
            `config` sets the learning rate, the weight decay and everything else.
        threads: number of torch threads.
        use_gpu: train on the GPU that this process sees.
        options: further arguments of `pl.Trainer`.

    Raises:
        NonFiniteLossError: the loss is no longer a finite number.
        ValueError: `train.pretrained` or `ckpt_path` does not fit the model.
    """
    import pytorch_lightning as pl
    import torch

    from detector.lightning_model import LightningDetectionModel
    from detector.utils.precision import resolve_precision
    from evforge.training.meter import TrainingMeter

    quiet()
    torch.set_num_threads(threads)
    pl.seed_everything(config.train.seed, workers=True, verbose=False)
    model = LightningDetectionModel(config.to_hparams())
    if config.train.pretrained is not None and ckpt_path is None:
        model.load_pretrained(config.train.pretrained)
    trainer = pl.Trainer(
        accelerator="gpu" if use_gpu else "cpu",
        precision=resolve_precision(config.train.precision, use_gpu),  # type: ignore[arg-type]
        max_epochs=config.train.max_epochs,
        check_val_every_n_epoch=config.train.val_every,
        limit_train_batches=config.train.limit_train_batches,
        limit_val_batches=config.train.limit_val_batches,
        callbacks=[TrainingMeter(), *callbacks],
        use_distributed_sampler=False,  # the loader itself gives each rank its files
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"devices": 1, **(options or {})},
    )
    trainer.fit(model, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def train(config: Config, resume: str | Path | None = None) -> TrainResult:
    """Train with Ray Train on `train.workers` ranks.

    Args:
        config: the configuration.
        resume: folder of an earlier run. The training continues from the run's last checkpoint in the same MLflow run.

    Raises:
        ValueError: a setting is invalid.
        FileNotFoundError: the dataset or the run to resume does not exist.
        EvForgeError: the training failed, another process is training in the folder, or the machine has too few CPUs
            or no GPU.
    """
    from evforge.training.driver import driven_run

    config = check_config(config)
    folder = None if resume is None else Path(resume).absolute()

    def require(resources: Resources) -> None:
        resources.require_workers(config.train.workers, resources.use_gpu(config.train.use_gpu))

    with driven_run("train", config, folder, require, dashboard=False) as run, without_group_cleaner():
        use_gpu = run.resources.use_gpu(config.train.use_gpu)
        with _own_interrupts(), epoch_bar(run.folder / PROGRESS_FILE) as shown:
            log = {
                "tracker": run.tracker,
                "run_id": run.run_id,
                "bar": shown,
                "system_metrics": system_metrics_wanted(),
            }
            result = run_workers(config, run.folder, use_gpu, left_out=run.resources.left_out, log=log)
        if not result.best_checkpoints:
            raise EvForgeError(f"{run.folder}: the training ended without a validation and has no checkpoint")
        checkpoint, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["val_mean_ap"])
        with checkpoint.as_directory() as source:
            copy_checkpoint(source, run.folder / BEST_CHECKPOINT)
        run.tracker.log_metrics(run.run_id, {"best_val_mean_ap": metrics["val_mean_ap"]}, step=metrics["epoch"])
        found = f"Best epoch: {metrics['epoch']}, val_mean_ap {metrics['val_mean_ap']:.4f}."
        run.tracker.note_result(run.run_id, f"{found} Checkpoint: `{run.folder / BEST_CHECKPOINT}`.")
        return TrainResult(run.folder / BEST_CHECKPOINT, dict(metrics), run.run_id, run.folder)


def run_workers(
    config: Config,
    folder: Path,
    use_gpu: bool,
    *,
    best: tuple[str, str] = ("val_mean_ap", "max"),
    threads: int | None = None,
    left_out: Sequence[str] = (),
    max_failures: int | None = None,
    log: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
) -> "ray.train.Result":
    """Train in the workers of Ray Train. Resume from the last checkpoint in the folder if there is one.

    Args:
        config: checked configuration.
        folder: folder of the checkpoints.
        use_gpu: give each worker a GPU.
        best: name of a metric and its mode ("max" or "min"). The best and the last checkpoint are kept.
        threads: number of torch threads per worker; if None, the workers of a machine share its cores.
        left_out: ids of nodes that must not be used.
        max_failures: number of retries; `train.max_failures` if None.
        log: dict with the `tracker` and the `run_id` for rank 0, `system_metrics` (whether the use of its machine is
            logged) and `bar` (whether an `epoch_bar` is drawn); None to log and print nothing.
        callbacks: callbacks of Ray Train.

    Raises:
        TrainingFailed: the training failed, and a further retry may succeed.
        EvForgeError: the training failed, and would fail again.
    """
    import ray.train
    from ray.train.torch import TorchTrainer

    (folder / FAILURE_FILE).unlink(missing_ok=True)
    job = {
        "hparams": vars(config.to_hparams()),
        "folder": folder,
        "use_gpu": use_gpu,
        "threads": threads,
        "log": log,
        "start": checkpoint_after_broken_list(folder),
    }
    least, workers = config.train.min_workers, config.train.workers
    retries = config.train.max_failures if max_failures is None else max_failures
    trainer = TorchTrainer(
        _worker_loop,
        train_loop_config=job,
        torch_config=torch_config("nccl" if use_gpu else "gloo", _use_node_interface),
        scaling_config=ray.train.ScalingConfig(
            num_workers=(least, workers) if least else workers,  # type: ignore[arg-type]
            use_gpu=use_gpu,
            label_selector=selector(left_out) or None,  # type: ignore[call-arg]
        ),
        run_config=_run_config(folder, retries, best, callbacks),
    )
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        kind = EvForgeError if (folder / FAILURE_FILE).is_file() else TrainingFailed
        raise kind(f"training failed: {_reason(error, folder)}") from None


def _run_config(
    folder: Path, max_failures: int, best: tuple[str, str], callbacks: Sequence[Any]
) -> "ray.train.RunConfig":
    import ray.train

    return ray.train.RunConfig(
        name=folder.name,
        storage_path=str(folder.parent),
        callbacks=[failure_printer(), *callbacks],
        # Ray's errors are long and come twice; the last one is in the message of this training.
        logging_config=ray.train.LoggingConfig(log_level="ERROR" if "EVFORGE_TRACEBACK" in os.environ else "CRITICAL"),
        failure_config=ray.train.FailureConfig(
            max_failures=max_failures,
            controller_failure_limit=max_failures,  # type: ignore[call-arg]
        ),
        checkpoint_config=ray.train.CheckpointConfig(
            num_to_keep=BEST_KEPT, checkpoint_score_attribute=best[0], checkpoint_score_order=best[1]
        ),
    )


def _use_node_interface() -> None:
    """Let gloo use the network interface of this node's address, instead of that of the host's name.

    On Debian, the address of the host's name is 127.0.1.1, at which other nodes cannot be reached.
    """
    import psutil
    import ray

    address = ray.util.get_node_ip_address()
    for name, found in psutil.net_if_addrs().items():
        if address in [one.address for one in found]:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _worker_loop(job: dict[str, Any]) -> None:
    """Train in the process of one rank. `job` is the dict that `run_workers` creates."""
    import ray.train

    from detector.lightning_model import NonFiniteLossError
    from evforge.tracking.system_metrics import system_metrics
    from evforge.training.callbacks import ProgressLine, ReportMetrics
    from evforge.training.profiling import model_costs

    load()
    failure = job["folder"] / FAILURE_FILE
    if failure.is_file():  # Ray retries after every failure, but the noted failure would occur again
        raise EvForgeError(failure.read_text())
    context = ray.train.get_context()
    is_first = context.get_world_rank() == 0
    log = job["log"] if is_first else None
    number = itertools.count()
    bar = job["folder"] / PROGRESS_FILE if log and log["bar"] else None

    def report(metrics: dict[str, Any], folder: Path) -> None:
        if log:
            logged = logged_metrics(metrics, first=next(number) == 0)
            log["tracker"].log_metrics(log["run_id"], logged, step=metrics["epoch"])
        with whole_checkpoints(job["folder"], folder) if is_first else nullcontext():
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder) if is_first else None)

    monitor = system_metrics(log["tracker"].uri, log["run_id"]) if log and log["system_metrics"] else nullcontext()
    try:
        with monitor, checkpoint_file(ray.train.get_checkpoint()) as ckpt_path:
            fit(
                Config.from_hparams(job["hparams"]),
                [ReportMetrics(report, model_costs), *([ProgressLine(file=bar)] if log else [])],
                ckpt_path or job["start"],
                threads=job["threads"] or max(1, cpu_count() // context.get_local_world_size()),
                use_gpu=job["use_gpu"],
                options=_ddp_options(context.get_world_size()),
            )
    except (NonFiniteLossError, ValueError, CheckpointError) as error:
        if isinstance(error, CheckpointError) or not is_temporary(error):
            note_failure(failure, str(error))
        raise
    finally:
        if log:
            log["tracker"].flush()


def _ddp_options(world_size: int) -> dict[str, Any]:
    if world_size == 1:
        return {}
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    # The buffers of each rank contain the recurrent state of its own streams, so they must not be broadcast.
    strategy = RayDDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return {"devices": "auto", "strategy": strategy, "plugins": [RayLightningEnvironment()]}


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Context manager that converts the SystemExit, which Ray Train raises after Ctrl-C, to a KeyboardInterrupt.

    After the block, the signal handler that Ray Train has replaced is restored.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


def _reason(error: Exception, folder: Path) -> str:
    failure = folder / FAILURE_FILE
    if failure.is_file():
        return failure.read_text()
    if "No space left on device" in str(error):  # Ray itself could not write a file
        return f"{folder}: no space left on the disk; free some space, then resume with --resume"
    return last_line(failure_text(error))


def quiet() -> None:
    """Silence messages of Lightning and Ray that do not help users."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    logging.getLogger("ray.tune.trainable").setLevel(logging.ERROR)  # logs each checkpoint that is loaded
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train logs each report to the root logger
    for message in (
        ".*does not have many workers.*",
        ".*recommended to use `self.log.*sync_dist=True.*",  # the model's metrics are equal on all ranks
        ".*isinstance.treespec, LeafSpec.*",
        ".*resuming from a checkpoint that ended before the epoch ended.*",  # not true, see ReportMetrics
        ".*`broadcast_buffers` is deprecated.*",  # older versions of torch do not have its replacement
    ):
        warnings.filterwarnings("ignore", message)
