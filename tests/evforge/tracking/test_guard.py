import json
import subprocess
import sys
import time

import pytest

from evforge.tracking.guard import end_runs, guarded
from evforge.tracking.tracker import Tracker
from evforge.tracking.writes import WRITES

DRIVER = """
import os, signal, sys
from evforge.tracking.guard import guarded
from evforge.tracking.tracker import Tracker
tracker = Tracker(sys.argv[1], "exp")
study = tracker.start_run("study", {})
ended, running = (tracker.start_run(name, {}, parent=study) for name in ("ended", "running"))
tracker.end_run(ended, "FAILED")
with guarded(tracker, study, "resume with: X"):
    print(study, ended, running, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_driver_leaves_no_run_running(tracking_uri):
    Tracker(tracking_uri, "exp")
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, tracking_uri], capture_output=True, text=True, timeout=120, check=False
    )  # the pipe of stderr stays open until the guard ends
    tracker = Tracker(tracking_uri, "exp")
    assert [tracker.run_info(run).status for run in driver.stdout.split()] == ["KILLED", "FAILED", "KILLED"]
    assert "evforge: resume with: X" in driver.stderr


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_guard_leaves_a_driver_that_ends_itself_alone(tracking_uri, error, capfd):
    tracker = Tracker(tracking_uri, "exp")
    run_id = tracker.start_run("run", {})
    try:
        with guarded(tracker, run_id, "resume with: X"):
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert tracker.run_info(run_id).status == "RUNNING" and "resume" not in capfd.readouterr().err


def test_a_guard_without_a_server_leaves_its_write_to_the_next_command(tracking_uri, tmp_path, capsys):
    tracker = Tracker(tracking_uri, "exp")
    run_id = tracker.start_run("run", {})
    away = "http://127.0.0.1:9"
    end_runs(away, "exp", str(tmp_path / "runs"), run_id, "resume with: X")
    (file,) = (tmp_path / "runs" / "undelivered").iterdir()
    assert f"the writes stay in {file}" in capsys.readouterr().err
    header, write = (json.loads(line) for line in file.read_text().splitlines() if line)
    assert header == {"address": away} and write["method"] == "end_dead"
    WRITES["end_dead"](tracker.client, **write["arguments"])
    assert tracker.run_info(run_id).status == "KILLED"


def test_a_late_end_of_a_dead_process_does_not_reach_the_resumed_run(tracker):
    run_id = tracker.start_run("run", {})
    before = int(time.time() * 1000) - 5000
    tracker.resume_run(run_id)
    WRITES["end_dead"](tracker.client, run_id, before)
    assert tracker.run_info(run_id).status == "RUNNING"
    WRITES["end_dead"](tracker.client, run_id, before + 10_000)
    assert tracker.run_info(run_id).status == "KILLED"
