import subprocess
import sys

import pytest

from evforge import EvForgeError
from evforge.cluster import placement
from evforge.cluster.diagnosis.preflight import Report
from evforge.cluster.placement import avoid, request, selector, serving_nodes, witnesses
from evforge.cluster.session import Resources

NODES = [
    {"Alive": True, "NodeID": "aa", "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 4.0}},
    {"Alive": True, "NodeID": "bb", "NodeManagerAddress": "10.0.0.2", "Resources": {"CPU": 2.0, "GPU": 1.0}},
    {"Alive": True, "NodeID": "cc", "NodeManagerAddress": "10.0.0.3", "Resources": {"CPU": 2.0}},
    {"Alive": False, "NodeID": "dd", "NodeManagerAddress": "10.0.0.4", "Resources": {"CPU": 9.0}},
]


@pytest.fixture
def nodes(monkeypatch):
    monkeypatch.setattr("ray.nodes", lambda: NODES)
    return Resources(((4, 0), (2, 1), (2, 0)))


def test_a_dataset_is_recognised_by_its_label_map_and_one_recording_per_split(tiny_dataset):
    found = [path.removeprefix(f"{tiny_dataset}/") for path in witnesses(tiny_dataset)]
    assert [path.partition("/")[0] for path in found] == ["label_map_dictionary.json", "train", "val"]


def test_nodes_that_do_not_see_the_dataset_are_named_and_left_out(nodes, tiny_config, monkeypatch, capsys):
    def ask(paths, server):
        missing = (next(iter(paths)),)
        return {
            "aa": Report("a"),
            "bb": Report("b", missing=missing),
            "cc": Report("c", error="no answer within 120 s"),
        }

    monkeypatch.setattr(placement, "ask_nodes", ask)
    found = serving_nodes(tiny_config, nodes)
    assert found == Resources(((4, 0),), left_out=("bb", "cc"))
    dataset = tiny_config.data.dataset_path
    assert capsys.readouterr().out.splitlines() == [
        f"node 10.0.0.2 is left out: does not see {dataset}/label_map_dictionary.json",
        "node 10.0.0.3 is left out: no answer within 120 s",
    ]


def test_a_dataset_that_no_node_sees_is_an_error(nodes, tiny_config, monkeypatch):
    monkeypatch.setattr(
        placement,
        "ask_nodes",
        lambda paths, server: {name: Report(name, missing=("x",)) for name in ("aa", "bb", "cc")},
    )
    with pytest.raises(EvForgeError, match="which no node of the cluster sees"):
        serving_nodes(tiny_config, nodes)


def test_a_request_avoids_a_node_only_if_another_one_can_serve_it(nodes):
    assert selector(()) == {} and selector(["bb", "cc"]) == {"ray.io/node-id": "!in(bb,cc)"}
    cpu, gpu = request({"cpu": 3.0}), request({"cpu": 1.0, "gpu": 0.5})
    assert avoid(cpu, ["bb"]) == request({"cpu": 3.0}, ["bb"]) != cpu
    assert avoid(cpu, ["aa"]) == cpu  # the others have 2 cores
    assert avoid(gpu, ["bb"]) == gpu  # the only GPU


TWO_NODES = """
import os, sys, time
from pathlib import Path
import evforge  # sets Ray's environment
import ray
from ray import tune
from ray.cluster_utils import Cluster
from evforge.cluster.placement import avoid, request
from evforge.cluster.ray_compat import before_retries, failed_node
from evforge.cluster.session import ray_session
from evforge.training.failures import NodeError

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
os.environ["RAY_ADDRESS"] = cluster.address
folder = Path(sys.argv[1])

def work(config):
    import ray
    node, first = ray.get_runtime_context().get_node_id(), folder / "first"
    if config["fails"] and not first.exists():
        first.write_text(node)
        raise NodeError.here(OSError("hidden"))
    tune.report({"node": hash(node), "elsewhere": not config["fails"] or node != first.read_text()})
    (folder / f"{config['name']}-{node}").touch()

def change(trial):
    print("failed on", failed_node(trial) == (folder / "first").read_text(), flush=True)
    trial.update_resources(avoid(trial.placement_group_factory, [failed_node(trial)]))

def search(name, fails, amounts, count):
    tuner = tune.Tuner(
        tune.with_resources(work, amounts),
        param_space={"fails": fails, "name": name},
        tune_config=tune.TuneConfig(num_samples=count, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder), name=name, verbose=0, failure_config=tune.FailureConfig(max_failures=1)
        ),
    )
    with before_retries(change):
        return [result.metrics.get("elsewhere") for result in tuner.fit()]

with ray_session():
    print("retried", search("retried", True, request({"cpu": 1.0}), 1))
    bad = (folder / "first").read_text()
    print("others", search("others", False, request({"cpu": 1.0}, [bad]), 3))
    print("left out", not list(folder.glob(f"others-{bad}")))
cluster.shutdown()
"""


@pytest.mark.soak
def test_a_failed_trial_is_retried_on_another_node_and_others_keep_away(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TWO_NODES, str(tmp_path)], capture_output=True, text=True, timeout=550, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("failed", "retried", "others", "left"))]
    assert lines == ["failed on True", "retried [True]", "others [True, True, True]", "left out True"], done.stderr
