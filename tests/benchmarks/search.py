"""Epochs that a search trains until it finds a good detector: the default search against plain random search.

`python tests/benchmarks/search.py [--rounds N] [--record] [--live SEED ...]`. Both searches are replayed with many
seeds on the learning curves in search_curves.json, which are those of every combination of anchors, threshold and width
below, trained once for real on the tests' toy dataset (`--record` trains those that the file lacks, half a minute each
on one core). The searcher and the scheduler are Ray's own, as `evforge tune` uses them; what is replayed is the
training. `--live` then searches for real with each; plain random search takes the hopeless lists, too.
"""

import heapq
import itertools
import json
import statistics
import sys
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from rounds import Row, arguments, parse, print_rows
from toy_dataset import TOY_SETTINGS, write_toy_dataset

from detector.config import Config
from evforge.anchors.candidates import resolve_lists
from evforge.space.space import Space, load_space
from evforge.training.train import check_config, fit

CURVES = Path(__file__).with_name("search_curves.json")
METRIC, EPOCHS = "val_mean_ap", 9
LIMIT = 1000
"""Epochs that a replay counts as which ends without the target: a space drawn whole, or so many epochs."""
SPACE = """
space:
  anchors.anchor_list:
    choice:
      - PSEE_ANCHORS
      - COCO_ANCHORS
      - [[1, 1.2], [2.3, 1.3]]
      - [[0.2, 0.6], [0.1, 0.8]]
      - [[1, 4], [2, 5]]
  anchors.fg_iou_threshold: {choice: [0.4, 0.5, 0.6]}
  model.feature_base: {choice: [2, 4, 6, 8]}
"""
SETTINGS = {
    **TOY_SETTINGS,
    "model.feature_channels_out": 8,
    "optim.lr_scheduler": "cosine",
    "train.max_epochs": EPOCHS,
    "tune.searcher": "grid",
}


def _space(folder: str) -> Space:
    path = Path(folder) / "space.yaml"
    path.write_text(SPACE)
    return load_space(path)


def _record(config: Config, space: Space) -> None:
    """Train every combination; what is there already is kept."""
    from evforge.training.callbacks import ReportMetrics

    config = check_config(config)
    curves = json.loads(CURVES.read_text()) if CURVES.is_file() else {}
    for sample in space.grid_samples(config):
        key, values = _key(sample), []
        if key in curves:
            continue
        report = partial(lambda kept, metrics, folder: kept.append(round(metrics[METRIC], 5)), values)
        fit(config.with_overrides(space.overrides_of(sample)), [ReportMetrics(report)], threads=1)
        curves[key] = values
        CURVES.write_text(json.dumps(curves, indent=0) + "\n")
        print(f"{len(curves):>3} {key}: {values[-1]:.3f}", flush=True)


def _key(sample: dict) -> str:
    return json.dumps(sample, sort_keys=True)


def _random(space: Space, config: Config, seed: int):
    """Plain random search: samples with replacement, each trained to its end."""
    samples = iter(space.random_samples(config, 1000, seed))
    return lambda name: next(samples), lambda name, epoch, value: False, lambda name, epoch, value: None


def _default(space: Space, config: Config, seed: int):
    """The search of `evforge tune`: Optuna's TPE and ASHA, as Ray runs them."""
    import optuna

    from evforge.search.policies.samplers import UnseenSearch
    from evforge.search.policies.tables import make_scheduler

    search = UnseenSearch(optuna.samplers.TPESampler(seed=seed), partial(space.suggest, config), METRIC, "max", seed)
    scheduler = make_scheduler(config, space)

    def suggest(name: str) -> dict:
        scheduler.on_trial_add(None, SimpleNamespace(trial_id=name))
        return search.suggest(name)

    def result(name: str, epoch: int, value: float) -> bool:
        found = {METRIC: value, "training_iteration": epoch}
        search.on_trial_result(name, found)
        return scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), found) == "STOP"

    def complete(name: str, epoch: int, value: float) -> None:
        search.on_trial_complete(name, {METRIC: value, "training_iteration": epoch})

    return suggest, result, complete


def _replay(policy: tuple, curves: dict[str, list[float]], target: float, workers: int) -> int:
    """Epochs trained by workers side by side until a trial reaches the target."""
    suggest, result, complete = policy
    names = itertools.count()
    running: list[tuple[int, int, str, str, int]] = []  # time, order, name, curve, epoch that ends then

    def start(now: int) -> None:
        number = next(names)
        sample = suggest(f"t{number}")
        if sample != "FINISHED":
            heapq.heappush(running, (now + 1, number, f"t{number}", _key(sample), 1))

    for _ in range(workers):
        start(0)
    for trained in itertools.count(1):
        now, number, name, key, epoch = heapq.heappop(running)
        value = curves[key][epoch - 1]
        if value >= target:
            return trained
        stop = result(name, epoch, value)
        if stop or epoch == EPOCHS:
            complete(name, epoch, value)
            start(now)
        else:
            heapq.heappush(running, (now + 1, number, name, key, epoch + 1))
        if trained == LIMIT or not running:
            break
    return LIMIT


def _live(config: Config, folder: Path, target: float, settings: dict) -> str:
    """Search for real; epochs trained until a trial reached the target, in the order of their reports."""
    from evforge.search.tune import tune
    from evforge.tracking.tracker import Tracker

    changes = {**settings, "train.storage": str(folder), "track.tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    study = tune(config.with_overrides(changes), folder.parent / "space.yaml")
    tracker = Tracker(changes["track.tracking_uri"], config.track.experiment)
    histories = [tracker.client.get_metric_history(run.run_id, METRIC) for run in tracker.runs(study.run_id)]
    points = sorted((point for history in histories for point in history), key=lambda point: point.timestamp)
    values = [point.value for point in points]
    epochs = next((number for number, value in enumerate(values, 1) if value >= target), None)
    return f"{epochs or f'not within {len(values)}'} epochs"


LIVE = {
    "random": {"tune.searcher": "random", "tune.scheduler": "none", "tune.num_samples": 30},
    "default": {"tune.searcher": "optuna", "tune.scheduler": "asha", "tune.num_samples": 36},
}


def main() -> None:
    parser = arguments(__doc__, rounds=50)
    parser.add_argument("--workers", type=int, default=2, help="trials side by side")
    parser.add_argument("--quantile", type=float, default=0.9, help="share of the combinations that stay below target")
    parser.add_argument("--record", action="store_true", help="train what search_curves.json lacks first")
    parser.add_argument(
        "--live",
        type=int,
        nargs="+",
        default=[],
        metavar="SEED",
        help="then search for real with each, 12 minutes a seed",
    )
    args = parse(parser)
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_toy_dataset(Path(folder) / "dataset", {"train": 8, "val": 8})
        config, space = Config().with_overrides({**SETTINGS, "data.dataset_path": str(dataset)}), _space(folder)
        if args.record:
            _record(config, space)
        curves = json.loads(CURVES.read_text())
        target = sorted(max(curve) for curve in curves.values())[int(args.quantile * len(curves))]
        spaces = {"random": space, "default": resolve_lists(space, check_config(config))}
        policies = {"random": _random, "default": _default}
        epochs = {
            name: [
                _replay(policies[name](spaces[name], config, seed), curves, target, args.workers)
                for seed in range(args.rounds)
            ]
            for name in policies
        }
        for seed, (name, settings) in itertools.product(args.live, LIVE.items()):
            changes = {**settings, "tune.final_seeds": 1, "tune.space_seed": seed}
            unfiltered = patch("evforge.search.tune.resolve_lists", lambda space, config: space)
            with unfiltered if name == "random" else nullcontext():
                print(f"{name}, live, seed {seed}: {_live(config, Path(folder) / f'{name}-{seed}', target, changes)}")
    for name, values in epochs.items():
        print(f"{name:<8} median {statistics.median(values)}, at most {max(values)} epochs")
    means = {name: statistics.fmean(values) for name, values in epochs.items()}
    row = Row(
        f"default search to {METRIC} {target:.3f}, {len(curves)} combinations, {args.workers} side by side",
        f"random search, {args.rounds} seeds",
        _text(epochs["default"]),
        _text(epochs["random"]),
        means["random"] / means["default"],
        2,
    )
    print_rows("search", [row], epochs=epochs)


def _text(epochs: list[int]) -> str:
    return f"{statistics.fmean(epochs):.1f} +- {statistics.pstdev(epochs):.1f} epochs"


if __name__ == "__main__":
    main()
