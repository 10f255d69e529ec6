import json
import os
import subprocess
import sys
import time

import pytest

from evforge.tracking.guard import _GUARD, end_runs, guarded
from evforge.tracking.tracker import Tracker
from evforge.tracking.writes import WRITES

LATER_MS = int(time.time() * 1000) + 10**8
"""After the start of every run of this module."""

DRIVER = """
import os, signal, sys
from pathlib import Path
from evforge.tracking.guard import guarded
from evforge.tracking.tracker import Tracker
tracker = Tracker(sys.argv[1], "exp")
folder, when = Path(sys.argv[2]), sys.argv[3]
study = tracker.start_run(folder.name, {}, {"start": "token"})
other = tracker.start_run(folder.name, {}, {"start": "other"})
with guarded(tracker, folder, "continue X", start="token", run_id=study if when == "resumed" else "") as started:
    ended, running = (tracker.start_run(name, {}, parent=study) for name in ("ended", "running"))
    tracker.end_run(ended, "FAILED")
    if when == "complete":
        started(study)
    print(study, ended, running, other, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(tracking_uri, folder, when):
    """Let a driver kill itself; return the ids of its runs, and what it and its guard print on stderr."""
    Tracker(tracking_uri, "exp")
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    command = [sys.executable, "-c", DRIVER, tracking_uri, str(folder), when]
    driver = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    return driver.stdout.split(), driver.stderr  # the pipe of stderr stays open until the guard ends


@pytest.mark.parametrize("when", ["complete", "resumed"])
def test_a_killed_driver_leaves_no_run_running(tracking_uri, tmp_path, when):
    folder = tmp_path / "study-1"
    runs, error = killed(tracking_uri, folder, when)
    tracker = Tracker(tracking_uri, "exp")
    assert [tracker.run_info(run).status for run in runs] == ["KILLED", "FAILED", "KILLED", "RUNNING"]
    assert f"evforge: the process of {folder} died; resume with: continue X" in error
    assert (folder / "run.json").is_file()


def test_the_time_of_death_is_taken_before_libraries_are_loaded(tmp_path):
    """A run that is resumed meanwhile is thus not ended. A module that loads for a second replaces the guard's."""
    package = tmp_path / "evforge" / "tracking"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    slow = "import time\ntime.sleep(1)\ndef end_runs(died_ms, **task): print(time.time() * 1000 - died_ms)\n"
    (package / "guard.py").write_text(slow)
    command = [sys.executable, "-c", _GUARD, '{"run_id": "1"}']
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=env, input="", capture_output=True, text=True, timeout=500, check=True)
    assert float(done.stdout) >= 1000


def test_a_driver_killed_during_its_start_leaves_neither_folder_nor_run(tracking_uri, tmp_path):
    folder = tmp_path / "study-1"
    (study, *_, other), error = killed(tracking_uri, folder, "incomplete")
    tracker = Tracker(tracking_uri, "exp")
    assert tracker.client.get_run(study).info.lifecycle_stage == "deleted" and not folder.exists()
    assert tracker.client.get_run(other).info.lifecycle_stage == "active"
    assert f"evforge: the process of {folder} died during its start, and the folder is removed" in error


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_guard_leaves_a_driver_that_ends_itself_alone(tracking_uri, tmp_path, error, capfd):
    tracker = Tracker(tracking_uri, "exp")
    run_id = tracker.start_run("run", {})
    try:
        with guarded(tracker, tmp_path, "X") as started:
            started(run_id)
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert tracker.run_info(run_id).status == "RUNNING" and "died" not in capfd.readouterr().err


def test_a_guard_without_a_server_leaves_its_write_to_the_next_command(tracking_uri, tmp_path, capsys):
    tracker = Tracker(tracking_uri, "exp")
    run_id = tracker.start_run("run", {})
    away = "http://127.0.0.1:9"
    end_runs(LATER_MS, run_id, "", away, "exp", str(tmp_path / "runs"), str(tmp_path / "runs/study-1"), "X")
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
    WRITES["end_dead"](tracker.client, run_id, LATER_MS)
    assert tracker.run_info(run_id).status == "KILLED"


def test_a_run_that_was_deleted_leaves_no_write(tracking_uri, tmp_path, capsys):
    tracker = Tracker(tracking_uri, "exp")
    run_id = tracker.start_run("run", {})
    tracker.client.delete_run(run_id)
    end_runs(LATER_MS, run_id, "", tracking_uri, "exp", str(tmp_path / "runs"), str(tmp_path / "runs/study-1"), "X")
    assert "not recorded: the end of run" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "undelivered").exists()


def test_a_folder_with_checkpoints_is_not_removed(tracking_uri, tmp_path):
    folder = tmp_path / "study-1"
    (folder / "checkpoint_1").mkdir(parents=True)
    end_runs(LATER_MS, "", "token", tracking_uri, "exp", str(tmp_path), str(folder), "X")
    assert (folder / "checkpoint_1").is_dir()
