"""cluster.yaml against the launcher's own schema, and platform/rayjob.yaml against the fields of ray.io/v1."""

import copy
import json
import re
import shlex
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from repository import ROOT

from evforge.cli.verbs import VERBS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TESTED = {
    name: version
    for name, _, version in (line.partition("==") for line in PROJECT["tool"]["uv"]["constraint-dependencies"])
}


@pytest.fixture(scope="module")
def cluster() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def job() -> dict:
    (found,) = [d for d in yaml.safe_load_all((ROOT / "platform/rayjob.yaml").read_text()) if d["kind"] == "RayJob"]
    return found


def test_the_launcher_accepts_the_file(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    assert prepared["head_start_ray_commands"] == cluster["head_start_ray_commands"]
    broken = copy.deepcopy(cluster)
    broken["idle_timeout"] = 3
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config(broken))


def test_what_the_schema_does_not_ask_for_is_there(cluster):
    assert cluster["provider"]["type"] == "aws"
    assert re.fullmatch(r"[a-z]{2}-[a-z]+-\d", cluster["provider"]["region"])
    zones = cluster["provider"]["availability_zone"].split(",")
    assert len(zones) > 1 and all(zone.startswith(cluster["provider"]["region"]) for zone in zones)
    assert all(kind["node_config"]["ImageId"] for kind in cluster["available_node_types"].values())


def test_head_on_demand_and_gpu_workers_from_none_on_spot(cluster):
    head, gpu = (cluster["available_node_types"][name] for name in ("head", "gpu"))
    assert cluster["head_node_type"] == "head"
    assert "InstanceMarketOptions" not in head["node_config"] and "GPU" not in head["resources"]
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert gpu["resources"]["GPU"] == 1 and gpu["min_workers"] == 0 < gpu["max_workers"] <= cluster["max_workers"]


def test_only_the_head_itself_reaches_the_dashboard_and_every_node_wants_the_token(cluster):
    head, worker = cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head
    assert all("RAY_AUTH_MODE=token ray start" in command for command in (head, worker))
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_nodes_install_the_pinned_versions(cluster):
    (sync,) = [command for command in cluster["setup_commands"] if "uv sync" in command]
    assert cluster["file_mounts"]["~/evforge/pyproject.toml"] == "pyproject.toml"
    assert "cd ~/evforge" in sync and "--extra platform" in sync and "--no-install-project" in sync


def test_job_has_the_fields_of_a_rayjob(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for part, gpus in ((cluster["headGroupSpec"], None), (group, "1")):
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
        (container,) = part["template"]["spec"]["containers"]
        assert container["resources"]["limits"].get("nvidia.com/gpu") == gpus
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_images_hold_the_tested_ray(job):
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == TESTED["ray"]
    for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = part["template"]["spec"]["containers"]
        assert container["image"].startswith(f"rayproject/ray:{TESTED['ray']}-py311")


def test_job_installs_every_requirement_in_the_tested_version(job):
    project = PROJECT["project"]
    needed = {
        Requirement(line).name for line in [*project["dependencies"], *project["optional-dependencies"]["platform"]]
    } - {"ray"}
    packages = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["pip"]
    assert {Requirement(line).name for line in packages} == needed
    assert {line for line in packages if "==" in line} == {f"{n}=={v}" for n, v in TESTED.items() if n in needed}


def test_all_nodes_mount_the_claim_that_the_command_reads_and_writes(job):
    documents = list(yaml.safe_load_all((ROOT / "platform/rayjob.yaml").read_text()))
    (claim,) = [d for d in documents if d["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    cluster = job["spec"]["rayClusterSpec"]
    for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = part["template"]["spec"]
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert pod["containers"][0]["volumeMounts"] == [{"name": volume["name"], "mountPath": "/shared"}]


def test_entrypoint_is_a_command_of_evforge_that_may_run_as_a_job(job, monkeypatch, tmp_path):
    from evforge.cli.parser import parse
    from evforge.cli.submit import check_job

    python, *words = shlex.split(job["spec"]["entrypoint"])
    assert (python, words[:2]) == ("python", ["-m", "evforge"])
    verb, *rest = [word.replace("/shared/evforge", str(ROOT)) for word in words[2:]]
    check_job(verb, parse(verb, VERBS[verb], rest))
    assert json.dumps(rest).count("/shared/") == 3
