"""Training: `fit` runs Lightning in this process, `train` runs it in the workers of Ray Train."""

import logging
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
from evforge.cluster.ray_compat import failure_text
from evforge.cluster.session import Resources, cpu_count, ray_session
from evforge.training.run_folder import (
    BEST_CHECKPOINT,
    CONFIG_FILE,
    CheckpointError,
    RunRecord,
    checkpoint_file,
    copy_checkpoint,
    is_metric,
    last_checkpoint,
    note_failure,
    read_record,
    unique_folder,
    whole_checkpoints,
    write_record,
)

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import ray.train

    from evforge.tracking.tracker import Tracker

__all__ = ["TrainResult", "check_config", "fit", "quiet", "run_workers", "train"]

FAILURE_FILE = "failure.txt"


@dataclass(frozen=True)
class TrainResult:
    """What a training made.

    Args:
        best_checkpoint: Lightning checkpoint of the epoch with the best `val_mean_ap`
        metrics: metrics of that epoch
        run_id: the MLflow run
        path: folder of the run
    """

    best_checkpoint: Path
    metrics: dict[str, float]
    run_id: str
    path: Path


def check_config(config: Config) -> Config:
    """Check on the driver everything that can be checked before a worker starts.

    Returns:
        The configuration with its classes filled in from the dataset, whose path is made absolute: workers may run in
        other folders.

    Raises:
        ValueError: a setting does not fit the dataset or another setting.
        FileNotFoundError: the dataset, or a part of it, is not there.
    """
    import torch

    from detector.data_factory import psee_data
    from detector.evaluation.quantities import label_counts
    from detector.lightning_model import build_ssd
    from detector.optim.learning_rate import rate_factor
    from detector.optim.optimizers import build_optimizer

    if not config.data.dataset_path:
        raise ValueError("data.dataset_path: got '', allowed: a dataset folder; `evforge build` and `synth` make one")
    if config.train.val_every > config.train.max_epochs:
        raise ValueError(
            f"train.val_every: got {config.train.val_every}, allowed: at most train.max_epochs "
            f"({config.train.max_epochs}), or nothing is ever measured"
        )
    if config.optim.warmup_epochs >= config.train.max_epochs:
        raise ValueError(
            f"optim.warmup_epochs: got {config.optim.warmup_epochs}, allowed: below train.max_epochs "
            f"({config.train.max_epochs})"
        )
    if config.train.pretrained is not None and not Path(config.train.pretrained).is_file():
        raise FileNotFoundError(f"train.pretrained: {config.train.pretrained}: no such checkpoint")
    psee_data(config.to_hparams(), "train")
    build_ssd(config)
    build_optimizer([torch.nn.Parameter(torch.zeros(1))], config.optim)
    rate_factor(config.optim, 0.0, config.train.max_epochs)
    label_counts(config, "val")  # reads the split, and refuses one that measures nothing
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
        callbacks: Lightning callbacks; they do all reporting and saving.
        ckpt_path: checkpoint to resume from: weights, Adam's moments and the position come from it; learning rate,
            weight decay and all else from `config`.
        threads: threads of torch.
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
        callbacks=list(callbacks),
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
    """Train under Ray Train with `train.workers` ranks.

    Args:
        config: the configuration.
        resume: folder of an earlier run to go on with, from its last checkpoint, in the same MLflow run.

    Raises:
        ValueError: a setting does not fit.
        FileNotFoundError: the dataset or the run to resume is not there.
        EvForgeError: the training failed, or the machine has too few CPUs or no GPU.
    """
    from evforge.tracking.tracker import Tracker

    config = check_config(config)
    record = read_record(resume) if resume is not None else None
    folder = Path(resume).absolute() if resume is not None else unique_folder(config.train.storage, "train")
    track = record or config.track
    tracker = Tracker(track.tracking_uri, track.experiment)
    with ray_session(dashboard=True) as resources, _tracked(tracker, config, folder, record) as run_id:
        return _launch(config, tracker, run_id, folder, resources)


@contextmanager
def _tracked(tracker: "Tracker", config: Config, folder: Path, record: RunRecord | None) -> Iterator[str]:
    """The MLflow run of a training: a new one, or the recorded one again."""
    tags = {"config_fingerprint": config.fingerprint(), "path": str(folder)}
    run = tracker.run(folder.name, config.to_flat(), tags) if record is None else tracker.resumed(record.run_id)
    with run as run_id:
        tracker.log_text(run_id, config.to_yaml(), CONFIG_FILE)
        write_record(folder, config, tracker, run_id)
        yield run_id


def _launch(config: Config, tracker: "Tracker", run_id: str, folder: Path, resources: Resources) -> TrainResult:
    use_gpu = resources.use_gpu(config.train.use_gpu)
    resources.require_workers(config.train.workers, use_gpu)
    with _own_interrupts():
        result = run_workers(config, folder, use_gpu, log={"tracker": tracker, "run_id": run_id})
    return _finish(result, run_id, folder)


def run_workers(
    config: Config,
    folder: Path,
    use_gpu: bool,
    *,
    best: tuple[str, str] = ("val_mean_ap", "max"),
    threads: int | None = None,
    log: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
) -> "ray.train.Result":
    """Train with Ray Train's workers, from the last checkpoint in the folder if there is one.

    Args:
        config: checked configuration.
        folder: where checkpoints go.
        use_gpu: give each worker a GPU.
        best: metric and mode of the checkpoint that is kept beside the last.
        threads: threads of each worker; those of its machine, shared by the workers on it, if None.
        log: `tracker` and `run_id` that rank 0 logs to.
        callbacks: Ray Train's.

    Raises:
        EvForgeError: the training failed.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    (folder / FAILURE_FILE).unlink(missing_ok=True)
    job = {"hparams": vars(config.to_hparams()), "folder": folder, "use_gpu": use_gpu, "threads": threads, "log": log}
    job["start"] = last_checkpoint(folder)
    trainer = TorchTrainer(
        _worker_loop,
        train_loop_config=job,
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=_num_workers(config), use_gpu=use_gpu),  # type: ignore[arg-type]
        run_config=_run_config(config, folder, best, callbacks),
    )
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise EvForgeError(f"training failed: {_reason(error, folder)}") from None


def _num_workers(config: Config) -> int | tuple[int, int]:
    least, workers = config.train.min_workers, config.train.workers
    return workers if least is None else (least, workers)


def _run_config(config: Config, folder: Path, best: tuple[str, str], callbacks: Sequence[Any]) -> "ray.train.RunConfig":
    import ray.train

    return ray.train.RunConfig(
        name=folder.name,
        storage_path=str(folder.parent),
        callbacks=list(callbacks),
        logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        failure_config=ray.train.FailureConfig(
            max_failures=config.train.max_failures,
            controller_failure_limit=config.train.max_failures,  # type: ignore[call-arg]
        ),
        # Ray keeps the last checkpoint besides the best ones.
        checkpoint_config=ray.train.CheckpointConfig(
            num_to_keep=1, checkpoint_score_attribute=best[0], checkpoint_score_order=best[1]
        ),
    )


def _worker_loop(job: dict[str, Any]) -> None:
    """One rank."""
    import ray.train

    from detector.lightning_model import NonFiniteLossError
    from evforge.training.callbacks import ProgressLine, ReportMetrics
    from evforge.training.profiling import model_costs

    failure = job["folder"] / FAILURE_FILE
    if failure.is_file():  # Ray tries again after every failure, and this one would come again
        raise EvForgeError(failure.read_text())
    context = ray.train.get_context()
    is_first = context.get_world_rank() == 0
    log = job["log"] if is_first else None

    def report(metrics: dict[str, Any], folder: Path) -> None:
        if log:
            figures = {name: value for name, value in metrics.items() if is_metric(name)}
            log["tracker"].log_metrics(log["run_id"], figures, step=metrics["epoch"])
        with whole_checkpoints(job["folder"], folder) if is_first else nullcontext():
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder) if is_first else None)

    try:
        with checkpoint_file(ray.train.get_checkpoint()) as ckpt_path:
            fit(
                Config.from_hparams(job["hparams"]),
                [ReportMetrics(report, model_costs), *([ProgressLine()] if log else [])],
                ckpt_path or job["start"],
                threads=job["threads"] or max(1, cpu_count() // context.get_local_world_size()),
                use_gpu=job["use_gpu"],
                options=_ddp_options(context.get_world_size()),
            )
    except (NonFiniteLossError, ValueError, CheckpointError) as error:
        note_failure(failure, str(error))
        raise
    finally:
        if log:
            log["tracker"].flush()


def _ddp_options(world_size: int) -> dict[str, Any]:
    if world_size == 1:
        return {}
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    # Buffers hold the streams' recurrent state, which belongs to its rank.
    strategy = RayDDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return {"devices": "auto", "strategy": strategy, "plugins": [RayLightningEnvironment()]}


def _finish(result: "ray.train.Result", run_id: str, folder: Path) -> TrainResult:
    if not result.best_checkpoints:
        raise EvForgeError(f"{folder}: the training ended without a validation, hence without a checkpoint")
    checkpoint, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["val_mean_ap"])
    with checkpoint.as_directory() as source:
        copy_checkpoint(source, folder / BEST_CHECKPOINT)
    return TrainResult(folder / BEST_CHECKPOINT, dict(metrics), run_id, folder)


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Turn the exit that Ray Train makes of Ctrl-C back into an interrupt, and put the handler it replaces back."""
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
    if "No space left on device" in str(error):  # from Ray's own writing
        return f"{folder}: no space left on the disk; make room, then go on with --resume"
    return last_line(failure_text(error))


def quiet() -> None:
    """Keep Lightning and Ray from printing what nobody asked for."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    logging.getLogger("ray.tune.trainable").setLevel(logging.ERROR)  # tells each checkpoint that is taken over
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train logs each report to the root
    for message in (
        ".*does not have many workers.*",
        ".*recommended to use `self.log.*sync_dist=True.*",  # the model's figures are the same on all ranks already
        ".*isinstance.treespec, LeafSpec.*",
        ".*resuming from a checkpoint that ended before the epoch ended.*",  # it did not, see ReportMetrics
        ".*`broadcast_buffers` is deprecated.*",  # its replacement is unknown to older versions of torch
    ):
        warnings.filterwarnings("ignore", message)
