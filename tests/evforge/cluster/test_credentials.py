import json
import os
import signal
import subprocess
import sys

import pytest

from evforge import EvForgeError
from evforge.cluster import credentials, ray_compat

SECRETS = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "Zq7+pw", "LAB_KEY": "Kx/9"}


@pytest.fixture
def _no_credentials(monkeypatch):
    for name in (*credentials.CREDENTIALS, *SECRETS, credentials.VARIABLE):
        monkeypatch.setenv(name, "")  # so that monkeypatch removes what a test sets
        monkeypatch.delenv(name)
    monkeypatch.setattr(credentials, "_received", set())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LAB_KEY=Kx/9", "--env: got LAB_KEY=..., allowed: only the name LAB_KEY, as a value would be in the history"),
        ("NO_SUCH_NAME", "--env: got NO_SUCH_NAME, which is not set; allowed: name of a variable that is set"),
        ("lab-key", "--env: got 'lab-key', allowed: name of a variable that does not begin with RAY_"),
        ("RAY_ADDRESS", "--env: got 'RAY_ADDRESS', allowed: name of a variable that does not begin with RAY_"),
    ],
)
def test_only_names_of_variables_that_are_set_are_accepted(name, message, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://h")
    with pytest.raises(ValueError) as error:
        credentials.named_values(["PATH", name])
    assert str(error.value).startswith(message) and "Kx" not in str(error.value)


def test_values_are_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("LAB_KEY", "Kx=/9")
    assert credentials.named_values(["LAB_KEY"]) == {"LAB_KEY": "Kx=/9"} and credentials.named_values([]) == {}


def test_a_job_receives_its_credentials_once_and_shares_them(ray_head, _no_credentials, monkeypatch):
    import ray
    from ray.job_submission import JobSubmissionClient

    credentials.receive()  # in a process that is no job
    assert credentials.upload(None, {}) == {} and credentials.set_credentials() == {}
    client = JobSubmissionClient(os.environ["RAY_API_SERVER_ADDRESS"])
    variables = credentials.upload(client, SECRETS)
    assert variables.keys() == {credentials.VARIABLE} and not any(value in str(variables) for value in SECRETS.values())

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    monkeypatch.setenv(credentials.VARIABLE, variables[credentials.VARIABLE])
    credentials.receive()
    assert {name: os.environ[name] for name in SECRETS} == SECRETS == credentials.set_credentials()
    assert credentials.VARIABLE not in os.environ
    monkeypatch.setenv(credentials.VARIABLE, variables[credentials.VARIABLE])
    with pytest.raises(EvForgeError, match="the credentials of this job are no longer on the cluster: submit the job"):
        credentials.receive()


def _read_in_worker(names):
    credentials.load()
    return {name: os.environ.get(name) for name in names}


def test_workers_get_the_credentials_of_their_driver_during_the_session(ray_head, _no_credentials, monkeypatch):
    import ray

    ask = ray.remote(num_cpus=0)(_read_in_worker)
    nothing = dict.fromkeys(["MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY"])
    with credentials.shared():
        assert ray_compat.fetch_shared() is None  # nothing is set
    assert ray.get(ask.remote(list(nothing))) == nothing
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "Zq7+pw")
    with pytest.raises(KeyError), credentials.shared():
        assert ray.get(ask.remote(list(nothing))) == {**nothing, "MLFLOW_TRACKING_PASSWORD": "Zq7+pw"}
        raise KeyError
    assert ray_compat.fetch_shared() is None


def test_a_driver_that_died_leaves_nothing_behind(ray_head, _no_credentials):
    import ray
    from ray.experimental.internal_kv import _internal_kv_exists
    from waiting import wait_for  # Ray's workers load this module and would not find it

    code = (
        "import ray, sys, time; from evforge.cluster.ray_compat import store_shared; ray.init(sys.argv[1]); "
        "store_shared(b'x'); print('job', ray.get_runtime_context().get_job_id(), flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, ray.get_runtime_context().gcs_address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        job = next(line for line in driver.stdout if line.startswith("job ")).split()[1]
        driver.send_signal(signal.SIGKILL)

    def gone() -> bool:
        ray_compat.store_shared(b"own")
        return not _internal_kv_exists(job, namespace=ray_compat.SHARED)

    wait_for(gone)
    assert ray_compat.fetch_shared() == b"own"
    ray_compat.remove_shared()


def test_a_package_that_no_job_takes_expires(ray_head):
    from ray._private.runtime_env.packaging import pin_runtime_env_uri, upload_package_to_gcs
    from ray.experimental.internal_kv import _internal_kv_exists
    from waiting import wait_for

    uri = ray_compat._package_uri("evforge-abc.zip")
    upload_package_to_gcs(uri, b"secret")
    assert _internal_kv_exists(uri)
    pin_runtime_env_uri(uri, expiration_s=1)  # what the job server does when it is asked for the package
    wait_for(lambda: not _internal_kv_exists(uri))


def test_messages_of_ray_quote_no_value():
    data = credentials._pack(SECRETS)
    assert data[:15] == b'{"credentials":' and json.loads(data)["credentials"] == SECRETS


def test_ray_tune_forwards_no_credentials():
    from ray.tune.execution import class_cache

    ray_compat.keep_environment_private()
    assert "RAY_CHDIR_TO_TRIAL_DIR" in class_cache.ENV_VARS_TO_PROPAGATE
    private = ("AWS", "KEY", "TOKEN", "SECRET", "PASSWORD")
    assert not [name for name in class_cache.ENV_VARS_TO_PROPAGATE if any(part in name for part in private)]
