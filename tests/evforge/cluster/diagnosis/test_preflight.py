import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from detector.config import Config
from evforge.cluster.diagnosis import preflight
from evforge.cluster.diagnosis.checks import Check
from evforge.cluster.diagnosis.preflight import Report

VERSIONS = {"python": "3.11.4", "ray": "2.60.0", "torch": "2.15.0"}


def _named(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def server(monkeypatch):
    """Address of an HTTP server that answers with a code; paths and credentials are remembered."""
    monkeypatch.setattr(preflight, "TRACKING_S", 300.0)  # on a busy machine, the answer takes longer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            service.asked.append((self.path, self.headers["Authorization"]))
            self.send_response(service.code)
            if service.code == 302:
                self.send_header("Location", "/other")
            self.end_headers()
            self.wfile.write(service.body)

        def log_message(self, *args):
            return

    service = HTTPServer(("127.0.0.1", 0), Handler)
    service.asked, service.code, service.body = [], 200, b"{}"
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    yield service
    service.shutdown()
    thread.join()
    service.server_close()


def test_equal_versions_are_one_line_each():
    checks = list(preflight._version_checks(VERSIONS, VERSIONS, [Report("a", VERSIONS), Report("b", VERSIONS)]))
    assert checks == [Check(name, "ok", f"{version} on every node") for name, version in VERSIONS.items()]


def test_versions_that_differ_between_driver_and_nodes_fail():
    old = {**VERSIONS, "torch": "2.11.0", "python": "3.11.9"}
    checks = _named(preflight._version_checks(VERSIONS, VERSIONS, [Report("a", VERSIONS), Report("b", old)]))
    assert checks["torch"] == Check(
        "torch", "FAIL", "2.15.0 on the driver, but b has 2.11.0: install the same version on every node"
    )
    assert checks["python"].status == "ok"  # a bug-fix release
    newer = {**VERSIONS, "python": "3.12.4"}
    assert _named(preflight._version_checks(VERSIONS, VERSIONS, [Report("a", newer)]))["python"].status == "FAIL"


def test_versions_that_differ_between_here_and_the_cluster_are_told():
    here = {**VERSIONS, "ray": "2.55.0", "python": "3.11.9"}
    checks = _named(preflight._version_checks(VERSIONS, here, [Report("a", VERSIONS)]))
    assert checks["ray"] == Check("ray", "warn", "2.60.0 on the cluster, 2.55.0 here: jobs run with the cluster's")
    assert checks["python"].status == checks["torch"].status == "ok"


def test_a_node_that_cannot_run_a_task_fails():
    nodes = [Report("a", VERSIONS), Report("10.0.0.2", error="ModuleNotFoundError: No module named 'evforge'")]
    checks = list(preflight._version_checks(VERSIONS, VERSIONS, nodes))
    assert checks[0] == Check(
        "nodes", "FAIL", "10.0.0.2 cannot run a task: ModuleNotFoundError: No module named 'evforge'"
    )
    assert {check.status for check in checks[1:]} == {"ok"}


@pytest.mark.parametrize(
    ("wanted", "present", "possible", "status"),
    [
        ("auto", 2, 2, "ok"),
        (True, 1, 0, "ok"),
        ("auto", 0, 0, "ok"),
        (False, 0, 4, "ok"),
        ("auto", 0, 4, "warn"),
        (True, 0, 4, "warn"),
        (True, 0, 0, "FAIL"),
    ],
)
def test_gpus(wanted, present, possible, status):
    config = Config().with_overrides({"train.use_gpu": wanted})
    (check,) = preflight._gpu_checks(config, present, possible)
    assert (check.name, check.status) == ("train.use_gpu", status)


def test_folders_that_a_node_does_not_see_fail(tmp_path):
    config = Config().with_overrides({"data.dataset_path": str(tmp_path)})
    paths = preflight._paths(config)
    assert preflight.node_report(paths, "").missing == ()
    assert preflight.node_report({"data.dataset_path": str(tmp_path / "no")}, "").missing == ("data.dataset_path",)
    nodes = [Report("a", VERSIONS), Report("b", VERSIONS, missing=("data.dataset_path",)), Report("c", error="gone")]
    (check,) = preflight._settings_checks(config, paths, nodes)
    assert check.status == "FAIL" and check.detail.startswith(f"{tmp_path} does not exist on b; ")
    (check,) = preflight._settings_checks(config, paths, nodes[:1])
    assert check == Check("data.dataset_path", "ok", str(tmp_path))


def test_which_settings_are_folders(tmp_path):
    config = Config().with_overrides(
        {
            "data.dataset_path": "s3://bucket/gen1",
            "train.pretrained": str(tmp_path / "best.ckpt"),
            "track.tracking_uri": f"sqlite:///{tmp_path}/mlflow.db",
        }
    )
    assert preflight._paths(config) == {
        "train.pretrained": str(tmp_path / "best.ckpt"),
        "track.tracking_uri": str(tmp_path),
    }


def test_an_mlflow_server_is_asked_with_the_credentials(server, monkeypatch, tmp_path):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    address = f"http://127.0.0.1:{server.server_port}"
    config = Config().with_overrides({"data.dataset_path": "s3://b", "track.tracking_uri": address})
    assert preflight.node_report({}, address).tracking == ""
    assert server.asked == [("/api/2.0/mlflow/experiments/search?max_results=1", None)]
    (check,) = preflight._settings_checks(config, {}, [Report("a", VERSIONS)])
    assert check == Check("track.tracking_uri", "ok", f"{address} answers")

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0")
    preflight.node_report({}, address)
    (tmp_path / ".mlflow").mkdir()
    stored = "[mlflow]\nmlflow_tracking_username = eve\nmlflow_tracking_password = %x"
    (tmp_path / ".mlflow" / "credentials").write_text(stored)
    preflight.node_report({}, address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw:7")
    preflight.node_report({}, address)
    sent = [header for _, header in server.asked[1:]]
    assert sent == ["Bearer t0", "Basic ZXZlOiV4", "Basic YWRhOnB3Ojc="]


@pytest.mark.parametrize(
    ("code", "body", "problem"),
    [
        (
            401,
            b"who?",
            "error 401: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, in a job",
        ),
        (
            403,
            b"not you",
            "error 403: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, in a job",
        ),
        (
            403,
            b"Invalid Host header - possible",
            "the server does not accept this host name; see the option",
        ),
        (404, b"", "error 404"),
        (503, b"", "error 503"),
        (200, b"<html>log in</html>", "another service than MLflow answers"),
    ],
)
def test_a_server_that_refuses_the_credentials_fails(server, code, body, problem):
    server.code, server.body = code, body
    address = f"http://127.0.0.1:{server.server_port}"
    config = Config().with_overrides({"data.dataset_path": "s3://b", "track.tracking_uri": address})
    report = preflight.node_report({}, address)
    assert report.tracking.startswith(problem)
    (check,) = preflight._settings_checks(config, {}, [Report("a", VERSIONS), report])
    assert check.status == "FAIL"
    assert check.detail.startswith(f"{address} cannot be used from {report.node}: {problem}")


def test_credentials_are_not_sent_where_the_server_redirects_to(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw7")
    server.code = 302  # to the path /other
    preflight.node_report({}, f"http://127.0.0.1:{server.server_port}")
    assert server.asked[0][1] is not None and ("/other", None) in server.asked[1:]


def test_a_server_that_is_not_there_cannot_be_reached():
    assert "refused" in preflight.node_report({}, "http://127.0.0.1:1").tracking


def test_settings_are_looked_at_on_this_machine(tmp_path):
    config = Config().with_overrides({"data.dataset_path": str(tmp_path / "no"), "train.use_gpu": False})
    checks = _named(preflight.local_checks(config))
    assert checks["data.dataset_path"].status == "FAIL" and checks["train.use_gpu"].status == "ok"


def test_every_node_of_a_cluster_is_asked(ray_head, tiny_config, tmp_path, monkeypatch, capsys):
    request = {"versions": preflight.installed(), "settings": tiny_config.to_flat()}
    (tmp_path / "request.json").write_text(json.dumps(request))
    assert preflight.main([str(tmp_path / "request.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"nodes                    ok    1 with {ray_head.cpus} CPUs and {ray_head.gpus} GPUs" in lines
    assert f"train.workers            ok    1 of at most {ray_head.cpus}" in lines
    assert f"train.storage            ok    {tmp_path / 'runs'}" in lines
    assert list((tmp_path / "runs").iterdir()) == []  # the mark is gone

    request["settings"] |= {"train.workers": ray_head.cpus + 1}
    (tmp_path / "request.json").write_text(json.dumps(request))
    assert preflight.main([str(tmp_path / "request.json")]) == 1
    problem = f"{ray_head.cpus + 1}, allowed: at most {ray_head.cpus}, the number of CPU cores"
    assert f"train.workers            FAIL  {problem}" in capsys.readouterr().out

    request["settings"] |= {"data.dataset_path": str(tmp_path / "no"), "train.storage": str(tmp_path / "request.json")}
    (tmp_path / "request.json").write_text(json.dumps(request))
    assert preflight.main([str(tmp_path / "request.json")]) == 1
    assert "train.storage: " in capsys.readouterr().out
