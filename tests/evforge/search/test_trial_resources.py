import subprocess
import sys

import pytest

from detector.config import Config
from evforge import EvForgeError
from evforge.cluster.session import Resources
from evforge.search.trial_resources import concurrent_trials, trial_limits, trial_reserves


@pytest.mark.parametrize(
    ("resources", "changes", "count", "threads", "limits"),
    [
        (Resources(((8, 0),)), {}, 4, 2, {"cpu": 2}),
        (Resources(((8, 0),)), {}, 20, 1, {"cpu": 1}),
        (Resources(((8, 0),)), {"tune.max_concurrent": 3}, 20, 2, {"cpu": 2}),
        (Resources(((2, 0),)), {"tune.max_concurrent": 4}, 20, 1, {"cpu": 0.5}),
        (Resources(((8, 2),)), {}, 20, 4, {"cpu": 4, "gpu": 1}),
        (Resources(((8, 2),)), {"tune.max_concurrent": 4}, 20, 2, {"cpu": 2, "gpu": 0.5}),
        (Resources(((8, 2),)), {"train.use_gpu": False}, 20, 1, {"cpu": 1}),
        (Resources(((2, 0),)), {}, 4, 1, {"cpu": 1.0}),
        (Resources(((2, 0),)), {}, 1, 2, {"cpu": 2.0}),
        (Resources(((16, 0),)), {}, 4, 4, {"cpu": 4.0}),
        (Resources(((16, 0),)), {"tune.max_concurrent": 2}, 4, 8, {"cpu": 8.0}),
        (Resources(((2, 0),)), {"tune.max_concurrent": 4}, 8, 1, {"cpu": 0.5}),
        (Resources(((16, 2),)), {}, 4, 8, {"cpu": 8.0, "gpu": 1.0}),
        (Resources(((16, 2),)), {"tune.max_concurrent": 4}, 4, 4, {"cpu": 4.0, "gpu": 0.5}),
        (Resources(((16, 2),)), {"train.use_gpu": False}, 4, 4, {"cpu": 4.0}),
        # A trial uses one node.
        (Resources(((2, 0),) * 3), {}, 1, 2, {"cpu": 2.0}),
        (Resources(((2, 0),) * 3), {}, 4, 1, {"cpu": 1.0}),
        (Resources(((1, 0),) * 3), {"tune.max_concurrent": 4}, 8, 1, {"cpu": 0.5}),
        (Resources(((8, 0), (3, 0))), {}, 3, 3, {"cpu": 3.0}),
        (Resources(((4, 0), (8, 1), (6, 1))), {}, 4, 6, {"cpu": 6.0, "gpu": 1.0}),
        (Resources(((64, 8),) * 2), {}, 4, 32, {"cpu": 32.0, "gpu": 1.0}),
        (Resources(((9, 2), (4, 1))), {"tune.max_concurrent": 4}, 4, 3, {"cpu": 3.0, "gpu": 0.6666}),
        (Resources(((4, 0),), ((8, 1),) * 4), {"train.use_gpu": True}, 20, 8, {"cpu": 8.0, "gpu": 1.0}),
        (Resources(((4, 0),), ((8, 1),) * 4), {}, 20, 1, {"cpu": 1.0}),
        (Resources(((0, 0),), ((0, 0), (8, 1), (8, 1))), {}, 2, 8, {"cpu": 8.0}),
        # Nodes with GPUs that run serve trials on CPUs too, with those without GPUs that can be started.
        (Resources(((4, 0), (8, 1)), ((4, 0), (4, 0), (8, 1), (8, 1))), {"train.use_gpu": False}, 4, 4, {"cpu": 4.0}),
    ],
)
def test_what_a_trial_reserves(resources, changes, count, threads, limits):
    assert trial_limits(Config().with_overrides(changes), resources, count) == (threads, limits)


@pytest.mark.parametrize(
    ("resources", "changes", "at_a_time", "threads"),
    [
        (Resources(((8, 0),)), {}, 4, 1),
        (Resources(((8, 0),)), {"train.workers": 3}, 2, 1),
        (Resources(((8, 0),)), {"tune.max_concurrent": 1}, 1, 4),
        (Resources(((8, 0),)), {"tune.max_concurrent": 9}, 4, 1),  # the workers of a fifth would have no place
        (Resources(((16, 4),)), {}, 2, 4),
        (Resources(((16, 4),)), {"train.use_gpu": False}, 8, 1),
        (Resources(((4, 0),), ((8, 1),) * 4), {"train.use_gpu": True}, 2, 8),
    ],
)
def test_as_many_trials_as_have_place_for_all_their_workers(resources, changes, at_a_time, threads):
    config = Config().with_overrides({"train.workers": 2, **changes})
    assert concurrent_trials(config, resources, 20) == at_a_time
    assert trial_limits(config, resources, 20) == (threads, {"memory": 1})  # what starts workers reserves no CPU


@pytest.mark.parametrize(
    ("changes", "reserves"),
    [
        ({"train.workers": 2}, {"cpu": 2, "gpu": 2}),
        ({"train.workers": 2, "train.use_gpu": False}, {"cpu": 2}),
        ({"train.workers": 1, "train.use_gpu": False, "tune.max_concurrent": 4}, {"cpu": 4.0}),
    ],
)
def test_what_a_trial_takes_from_the_cluster(changes, reserves):
    assert trial_reserves(Config().with_overrides(changes), Resources(((16, 4),)), 20) == reserves


@pytest.mark.parametrize(
    ("resources", "changes", "message"),
    [
        (Resources(((2, 0),)), {}, "train.workers: got 3, allowed: at most the 2 CPU cores that there are"),
        (Resources(((8, 1),)), {}, "train.workers: got 3, allowed: at most the 1 GPUs that there are"),
        (
            Resources(((4, 0),), ((8, 1),) * 2),
            {"train.use_gpu": True},
            "train.workers: got 3, allowed: at most the 2 GPUs that there are",
        ),
    ],
)
def test_a_trial_larger_than_the_cluster_is_refused(resources, changes, message):
    with pytest.raises(EvForgeError, match=message):
        concurrent_trials(Config().with_overrides({"train.workers": 3, **changes}), resources, 4)


THREE_NODES = """
import os
import evforge  # sets Ray's environment
import ray
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import ClusterConfig
from detector.config import Config
from evforge.cluster.session import ray_session
from evforge.search.trial_resources import concurrent_trials, trial_limits

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
for gpus in (1, 2):
    cluster.add_node(num_cpus=2, num_gpus=gpus)
os.environ["RAY_ADDRESS"] = cluster.address
with ray_session() as resources:
    print(sorted(resources.nodes), resources.grown)
    for changes in (
        {"train.use_gpu": True},
        {"train.use_gpu": True, "tune.max_concurrent": 5},
        {"train.use_gpu": False},
        {"train.use_gpu": False, "tune.max_concurrent": 9},
    ):
        for count in (1, 2, 9):
            config = Config().with_overrides(changes)
            threads, limits = trial_limits(config, resources, count)
            bundle = {kind.upper(): amount for kind, amount in limits.items()}
            groups = [ray.util.placement_group([bundle]) for _ in range(concurrent_trials(config, resources, count))]
            placed = [group.wait(120) for group in groups]
            print(changes, count, limits, sum(placed), "of", len(placed))
            for group in groups:
                ray.util.remove_placement_group(group)
    config = ClusterConfig()
    config.node_group_configs.add(resources={"CPU": 4}, max_count=1, name="head")
    config.node_group_configs.add(resources={"CPU": 8, "GPU": 2}, max_count=3, name="gpu")
    config.node_group_configs.add(resources={"CPU": 1}, max_count=-1, name="endless")
    key = ray._raylet.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, ray._raylet.GCS_AUTOSCALER_STATE_NAMESPACE
    ray.experimental.internal_kv._internal_kv_put(key[0], config.SerializeToString(), namespace=key[1])
with ray_session() as resources:
    print(len(resources.grown), *resources.grown[:5])
cluster.shutdown()
"""


@pytest.mark.soak
def test_a_cluster_places_every_trial_that_is_planned():
    """In another process: this one has its own Ray already. Its nodes have three kinds of CPUs and GPUs."""
    done = subprocess.run([sys.executable, "-c", THREE_NODES], capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    nodes, *placed, grown = done.stdout.splitlines()
    assert nodes == "[(2, 1), (2, 2), (3, 0)] ()"
    assert len(placed) == 12
    for line in placed:
        number, of = line.rsplit(" of ", 1)
        assert number.split()[-1] == of, line
    assert grown == "104 (4, 0) (8, 2) (8, 2) (8, 2) (1, 0)"
