"""Seconds that `evforge tune` adds to a trial, against the same trials by hand on Ray Tune and Lightning.

`python tests/benchmarks/overhead.py [--trials N] [--rounds N]`. Searches of both forms take turns on one Ray, one trial
at a time in a process that is used again; what is timed is from the end of a trial to the end of the next, so that
starting the process and importing, which both forms do once a search, is left out. By hand means without a tracking
store, without checks and without a table: what anybody would write first.
"""

import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from detector.config import Config
from evforge.cluster.session import ray_session
from evforge.search.tune import tune
from evforge.space.space import load_space
from evforge.tracking.tracker import Tracker
from evforge.training.train import check_config, quiet

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))
from rounds import Row, arguments, parse, print_rows  # noqa: E402
from toy_dataset import TOY_SETTINGS, write_toy_dataset  # noqa: E402

SETTINGS = {
    **TOY_SETTINGS,
    "model.feature_base": 4,
    "model.feature_channels_out": 16,
    "tune.searcher": "random",
    "tune.scheduler": "none",
    "tune.final_seeds": 1,
    "tune.max_concurrent": 1,
}
SPACE = "space: {anchors.fg_iou_threshold: {uniform: [0.4, 0.6]}}"


def by_hand_trial(sample: dict, config: Config) -> None:
    """What a trial is without a platform."""
    import pytorch_lightning as pl
    import torch
    from ray import tune as ray_tune

    from detector.lightning_model import LightningDetectionModel

    class Report(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if not trainer.sanity_checking:
                metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
                with tempfile.TemporaryDirectory() as folder:
                    trainer.save_checkpoint(Path(folder) / "checkpoint.ckpt")
                    ray_tune.report(metrics, checkpoint=ray_tune.Checkpoint.from_directory(folder))

    quiet()
    torch.set_num_threads(1)
    pl.seed_everything(0, workers=True, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=config.train.max_epochs,
        gradient_clip_val=config.optim.gradient_clip,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=[Report()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LightningDetectionModel(config.with_overrides(sample).to_hparams()))


def by_hand(config: Config, folder: Path, samples: list[dict]) -> list[float]:
    """Times at which trials ended."""
    from ray import tune as ray_tune

    ends: list[float] = []

    class Ends(ray_tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list, trial: object, **info: object) -> None:
            ends.append(time.time())

    checkpoints = ray_tune.CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="val_mean_ap")
    ray_tune.Tuner(
        ray_tune.with_resources(partial(_unwrapped, config=config), {"cpu": 1}),
        param_space={"sample": ray_tune.grid_search(samples)},
        tune_config=ray_tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=ray_tune.RunConfig(
            name=f"hand-{time.time()}",
            storage_path=str(folder),
            callbacks=[Ends()],
            verbose=0,
            checkpoint_config=checkpoints,
        ),
    ).fit()
    return ends


def _unwrapped(drawn: dict, config: Config) -> None:
    by_hand_trial(drawn["sample"], config)


def by_evforge(config: Config, folder: Path, trials: int) -> list[float]:
    """Times at which trials ended."""
    space = folder / "space.yaml"
    space.write_text(SPACE)
    result = tune(config, space, {"tune.num_samples": trials})
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)
    return [tracker.client.get_run(run.run_id).info.end_time / 1000 for run in tracker.runs(result.run_id)]


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--trials", type=int, default=6, help="trials of a search")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a trial")
    args = parse(parser)
    trials, epochs = (2, 1) if args.small else (args.trials, args.epochs)
    seconds: dict[str, list[float]] = {"by hand": [], "evforge": []}
    with tempfile.TemporaryDirectory() as name, ray_session():
        folder = Path(name)
        places = {"data.dataset_path": str(write_toy_dataset(folder / "dataset", {"train": 4, "val": 1}))}
        places |= {"train.storage": str(folder / "runs"), "track.tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"}
        config = check_config(Config().with_overrides({**SETTINGS, **places, "train.max_epochs": epochs}))
        (folder / "space.yaml").write_text(SPACE)
        samples = load_space(folder / "space.yaml").random_samples(config, trials, 0)
        for _ in range(args.rounds):
            for form, search in (
                ("evforge", partial(by_evforge, trials=trials)),
                ("by hand", partial(by_hand, samples=samples)),
            ):
                ends = sorted(search(config, folder))
                gaps = [later - earlier for earlier, later in zip(ends[:-1], ends[1:], strict=True)]
                print(f"{form}: {', '.join(f'{gap:.2f}' for gap in gaps)} s", flush=True)
                seconds[form] += gaps
    ours, theirs = statistics.median(seconds["evforge"]), statistics.median(seconds["by hand"])
    print(f"added: {ours - theirs:.2f} s a trial (asked: below 1 s or 5 %)")
    row = Row("trial of a search", "by hand", f"{ours:.2f} s", f"{theirs:.2f} s", theirs / ours)
    print_rows("overhead", [row], seconds=seconds)


if __name__ == "__main__":
    main()
