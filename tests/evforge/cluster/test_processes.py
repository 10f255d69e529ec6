"""Ends of processes: each test starts its own and looks at the table of processes afterwards."""

import shutil
import subprocess
import sys

import psutil
import pytest
from waiting import wait_for

from evforge.cluster.processes import LocalProcesses

SLEEP = shutil.which("sleep")


def _is_alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """On a busy machine, the kernel takes longer to end a process."""
    monkeypatch.setattr("evforge.cluster.processes.LIMIT_S", 300.0)


def _agents():
    return [one for one in psutil.Process().children() if one.name() == "ray::Agent"]


def test_children_and_grandchildren_of_the_start_end_and_others_do_not():
    other = subprocess.Popen([SLEEP, "600"])
    processes = LocalProcesses()
    with processes.starting():
        child = psutil.Popen(["sh", "-c", f"env -i {SLEEP} 600; true"])  # the grandchild has an empty environment
        wait_for(child.children)
    (grandchild,) = child.children()
    later = subprocess.Popen([SLEEP, "600"])
    try:
        assert processes.find() == {psutil.Process(child.pid), grandchild}
        processes.end()
        assert not _is_alive(grandchild) and not _is_alive(child)
        assert other.poll() is None and later.poll() is None
    finally:
        for process in (other, later):
            process.kill()
            process.wait()


def test_a_process_that_is_found_once_is_ended_after_its_parent_has_died():
    processes = LocalProcesses()
    with processes.starting():
        child = psutil.Popen(["sh", "-c", f"env -i {SLEEP} 600; true"])
        wait_for(child.children)
    (grandchild,) = processes.find() - {psutil.Process(child.pid)}
    child.kill()
    child.wait()
    assert _is_alive(grandchild)
    processes.end()
    assert not _is_alive(grandchild)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not give orphans a new parent")
def test_an_agent_without_environment_whose_parent_died_during_the_start_ends(tmp_path):
    agent = shutil.copy(SLEEP, tmp_path / "ray::Agent")
    processes = LocalProcesses()
    with processes.starting():
        subprocess.run(["sh", "-c", f"env -i {agent} 600 &"], check=True)
    wait_for(_agents)  # the child of the ended shell is a shell until it has started the agent
    (orphan,) = _agents()
    processes.end()
    assert not _is_alive(orphan)


def test_processes_have_time_to_end_by_themselves(tmp_path):
    processes, written = LocalProcesses(), tmp_path / "written"
    with processes.starting():
        subprocess.Popen(["sh", "-c", f"sleep 0.5; echo done > {written}"])
    processes.end(patience_s=300)
    assert written.read_text() == "done\n"
    assert not processes.find()
