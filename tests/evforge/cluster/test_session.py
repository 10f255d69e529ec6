"""Sessions of Ray: the start is replaced where a failure is tested; one test interrupts a real start."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext

import psutil
import pytest
from waiting import wait_for

from evforge import EvForgeError
from evforge.cluster import processes, session
from evforge.cluster.session import Resources, ray_session

SLEEP = shutil.which("sleep")


class Start:
    """Replaces `ray.init`: each call starts a process and then raises the next of the given errors, if it is one."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.started, self.options = [], []

    def __call__(self, **options):
        alive = [process for process in self.started if process.poll() is None]
        assert not alive, "the processes of the failed start are ended before the next start"
        self.options.append(options)
        self.started.append(subprocess.Popen([SLEEP, "600"]))
        error = self.errors.pop(0)
        if error is not None:
            raise error


@pytest.fixture
def start(monkeypatch):
    """Returns a function that replaces Ray by a `Start`."""
    import ray

    def replace(*errors):
        replaced = Start(*errors)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", replaced)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 3.0, "GPU": 1.0}}])
        monkeypatch.setattr(session, "PATIENCE_S", 0.0)
        monkeypatch.setattr(processes, "LIMIT_S", 300.0)
        return replaced

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session, "grown_nodes", lambda: ())
    monkeypatch.setattr(session, "ray_watched", lambda name: nullcontext())
    return replace


def _ended(replaced):
    return not any(psutil.pid_exists(process.pid) for process in replaced.started)


TIMED_OUT = Exception("The current node timed out during startup. This could happen because\nthe raylet failed.")


@pytest.mark.parametrize(
    ("given", "niceness"),
    [({}, "0"), ({"RAY_worker_niceness": "7"}, "7"), ({"RAY_ADDRESS": "http://10.0.0.1:8265"}, "None")],
)
def test_workers_of_a_ray_on_this_machine_have_normal_priority(given, niceness):
    code = "import evforge, os; print(os.environ.get('RAY_worker_niceness'))"
    known = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    assert subprocess.check_output([sys.executable, "-c", code], env={**known, **given}, text=True).strip() == niceness


def test_the_cores_of_the_process_count(monkeypatch):
    monkeypatch.setattr(session.os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    assert session.cpu_count() == 3
    monkeypatch.delattr(session.os, "sched_getaffinity")  # other systems do not have it
    monkeypatch.setattr(session.os, "cpu_count", lambda: 7)
    assert session.cpu_count() == 7


def test_a_failed_start_is_repeated_once(start):
    replaced = start(TIMED_OUT, None)
    with ray_session() as resources:
        assert resources.nodes == ((3, 1),)
        assert replaced.started[1].poll() is None
    assert len(replaced.started) == 2 and _ended(replaced)


def test_a_second_failure_is_one_line_with_cause_and_remedy(start):
    replaced = start(RuntimeError("Raylet exited"), TIMED_OUT)
    with pytest.raises(EvForgeError) as failure, ray_session():
        pytest.fail("the block runs only if Ray runs")
    text = str(failure.value)
    assert "\n" not in text and len(text) < 300
    assert "(The current node timed out during startup)" in text
    assert "overloaded, or out of memory or disk space" in text and "session_latest/logs" in text
    assert len(replaced.started) == 2 and _ended(replaced)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(15)])  # the second one by Ray's handler of SIGTERM
def test_an_interrupted_start_is_not_repeated_and_leaves_no_process(start, error):
    replaced = start(error)
    with pytest.raises(KeyboardInterrupt), ray_session():
        pytest.fail("the block runs only if Ray runs")
    assert len(replaced.started) == 1 and _ended(replaced)


@pytest.mark.parametrize("error", [None, ValueError("of the block")])
def test_all_processes_end_with_the_block(start, error):
    replaced = start(None)
    try:
        with ray_session():
            if error:
                raise error
    except ValueError as raised:
        assert raised is error
    assert _ended(replaced)


def test_what_a_start_changes_is_restored(start, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://cluster:8265")
    replaced = start(TIMED_OUT, None)
    before, handlers = dict(os.environ), [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    original = replaced.__call__

    def init(**options):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        original(**options)

    monkeypatch.setattr("ray.init", init)
    with ray_session(dashboard=True):
        address = os.environ["RAY_API_SERVER_ADDRESS"]
        assert address == f"http://127.0.0.1:{replaced.options[1]['dashboard_port']}"
    assert dict(os.environ) == before
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_without_a_dashboard_no_dashboard_of_another_ray_is_asked(start):
    replaced = start(None)
    with ray_session():
        assert replaced.options[0]["include_dashboard"] is False and "dashboard_port" not in replaced.options[0]
        port = int(os.environ["RAY_API_SERVER_ADDRESS"].rpartition(":")[2])
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_nested_session_neither_starts_nor_stops(start, monkeypatch):
    replaced = start(None)
    with ray_session():
        monkeypatch.setattr("ray.is_initialized", lambda: True)
        with ray_session(dashboard=True) as resources:
            assert resources.cpus == 3
        assert len(replaced.started) == 1 and replaced.started[0].poll() is None


def _name(process):
    try:
        return process.name()
    except psutil.Error:
        return ""


WAITS = """
import sys, time
from evforge.cli.main import main
from evforge.cli.verbs import VERBS
from evforge.cluster import processes
processes.LIMIT_S = 300.0
def connect(*arguments, **options):
    print("connecting", flush=True)
    time.sleep(600)
def probe() -> None:
    from evforge.cluster.session import ray_session
    import ray
    ray._private.worker.connect = connect  # the last step of the start
    with ray_session(dashboard=True):
        print("started", flush=True)
VERBS["probe"] = probe
sys.exit(main(["probe"]))
"""


@pytest.mark.soak
def test_a_sigterm_while_ray_starts_leaves_no_process():
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-c", WAITS]
    driver = psutil.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert driver.stdout.readline() == "connecting\n"
    (raylet,) = [one for one in driver.children() if _name(one) == "raylet"]
    wait_for(raylet.children)
    seen = driver.children(recursive=True)
    driver.terminate()
    output, errors = driver.communicate(timeout=500)
    assert len(seen) >= 3
    assert (driver.returncode, output) == (130, ""), errors
    assert errors.endswith("evforge: interrupted\n") and "Traceback" not in errors
    assert [one for one in seen if processes._is_alive(one)] == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://10.0.0.1:8265", "RAY_ADDRESS: got 'http://10.0.0.1:8265', allowed: HOST:6379"),
        ("head", "RAY_ADDRESS: got 'head', allowed: HOST:6379"),
        ("127.0.0.1:9", "RAY_ADDRESS: 127.0.0.1:9: no Ray answers there within 1 s; start it by `ray start --head`"),
        ("ray://127.0.0.1:9", "RAY_ADDRESS: ray://127.0.0.1:9: no Ray answers there"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(monkeypatch, address, message):
    monkeypatch.setattr(session, "ANSWER_S", 1.0)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray would wait for minutes"))
    with pytest.raises(EvForgeError) as failure, ray_session():
        pytest.fail("there is no cluster")
    assert str(failure.value).startswith(message) and "\n" not in str(failure.value)


def test_a_server_that_is_not_ray_is_no_cluster(monkeypatch):
    monkeypatch.setattr(session, "ANSWER_S", 1.0)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(EvForgeError, match="no Ray answers there"), ray_session():
            pytest.fail("there is no cluster")


def test_a_cluster_that_refuses_names_the_reason_and_the_remedy(monkeypatch):
    from ray.exceptions import AuthenticationError

    versions = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.12.1\n")
    expected = {
        AuthenticationError("no token"): "c:6379: the cluster wants its token: copy ~/.ray/auth_token",
        versions: "c:6379: Version mismatch: The cluster was started with: Ray: 2.59.0 Python: 3.12.1; install",
        ConnectionError("Failed to connect. More"): "c:6379: Ray cannot use this cluster: Failed to connect",
    }
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr(session, "answers", lambda address, timeout_s: True)
    monkeypatch.setenv("RAY_ADDRESS", "c:6379")
    for error, message in expected.items():
        monkeypatch.setattr("ray.init", lambda error=error, **options: (_ for _ in ()).throw(error))
        with pytest.raises(EvForgeError) as failure, ray_session():
            pytest.fail("there is no connection")
        assert str(failure.value).startswith(f"RAY_ADDRESS: {message}"), failure.value
        assert "\n" not in str(failure.value)


def test_resources_as_text(monkeypatch):
    import torch

    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert Resources(((4, 0), (8, 0))).text() == "2 nodes, 12 CPU cores (x86_64), 0 GPUs"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA X")
    assert Resources(((16, 2),)).text() == "1 node, 16 CPU cores (x86_64), 2 GPUs (NVIDIA X)"
