"""`evforge ui` with a database, a server, and a port that is in use."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial

import pytest
from repository import ROOT
from waiting import wait_for

from evforge.cli import ui
from evforge.cli.main import main
from evforge.tracking.mlflow_compat import EXPERIMENTS_PAGE
from evforge.tracking.tracker import Tracker


def test_for_a_server_the_address_is_printed(capsys):
    assert main(["ui", "--track.tracking_uri", "http://gpu-1:5000/"]) == 0
    assert capsys.readouterr().out == f"MLflow's pages: http://gpu-1:5000/{EXPERIMENTS_PAGE}\n"


def test_a_store_that_does_not_exist_is_one_line_and_is_not_created(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ui"]) != 0
    error = capsys.readouterr().err
    assert f"{tmp_path / 'mlflow.db'} does not exist" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(tracking_uri, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--track.tracking_uri", tracking_uri, "--port", str(port)]) != 0
    error = capsys.readouterr().err
    assert f"--port: got {port}, which cannot be used" in error and "allowed: a free port" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("port", [0, 70_000])
def test_a_port_that_cannot_exist_is_refused(tracking_uri, port):
    with pytest.raises(ValueError, match=f"--port: got {port}, allowed: 1 to 65535"):
        ui.show_pages(tracking_uri, port)


def test_a_password_is_not_a_word_of_the_command(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    words, variables = ui.server_command("postgresql://ada@db/mlflow", 5001)
    assert "secret" not in " ".join(words) and words[-4:] == ["--host", "127.0.0.1", "--port", "5001"]
    assert variables["MLFLOW_BACKEND_STORE_URI"] == "postgresql://ada:secret@db/mlflow"


def test_the_verb_serves_the_pages_of_a_database_on_loopback(tracker, tmp_path):
    run_id = tracker.start_run("trial", {})
    for _ in range(5):  # another process may take the free port before the server does
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = _start(tracker.uri, port, tmp_path)
        try:
            address = f"http://127.0.0.1:{port}"
            page = wait_for(partial(_page, address, server), 500)
            if server.poll() is None:
                assert b"<title>MLflow</title>" in page
                remote = Tracker(address, "exp")
                remote.log_metrics(run_id, {"val_mean_ap": 0.5}, step=0)
                remote.end_run(run_id, "FINISHED")
                break
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            output = server.communicate()[0]
    else:
        pytest.fail("the server ended five times")
    assert output.startswith(f"MLflow's pages, after a few seconds: {address}/{EXPERIMENTS_PAGE}\nCtrl-C")
    assert tracker.metric_history(run_id, "val_mean_ap") == [(0, 0.5)]


def _start(uri, port, folder):
    words = [sys.executable, "-m", "evforge", "ui", "--track.tracking_uri", uri, "--port", str(port)]
    path = f"{ROOT}{os.pathsep}{ROOT / 'platform'}"
    return subprocess.Popen(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _page(address, server):
    """The first page of a server; empty as long as it does not answer."""
    try:
        with urllib.request.urlopen(address, timeout=60) as page:
            return page.read()
    except OSError:
        return b"" if server.poll() is None else b"ended"
