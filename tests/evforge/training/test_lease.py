import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from waiting import wait_for

from evforge import EvForgeError
from evforge.training import lease
from evforge.training.lease import LEASE_FILE, hold_lease, ownerless


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also in a process that runs tests for another one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


OWNER = """
import sys
from pathlib import Path
from evforge.training import lease
lease.LEASE_S, lease.HEARTBEAT_S = 300.0, 0.5
with lease.hold_lease(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 300.0)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.5)


@pytest.fixture
def owner(tmp_path):
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def looks(monkeypatch):
    """The times at which the owner's heartbeat is looked at: once at first, and then in each pause of a wait."""
    found, touched = [], lease._touched
    monkeypatch.setattr(lease, "_touched", lambda folder: found.append(touched(folder)) or found[-1])
    return found


def test_a_living_owner_is_named(tmp_path, owner):
    with (
        pytest.raises(EvForgeError, match=f"process {owner.pid} on .* is working in this folder"),
        hold_lease(tmp_path),
    ):
        pass
    assert (tmp_path / LEASE_FILE).exists()


def test_a_dead_owner_is_replaced_at_once(tmp_path, owner, looks):
    owner.kill()
    owner.wait()
    with hold_lease(tmp_path):
        assert f"pid={os.getpid()}" in (tmp_path / LEASE_FILE).read_text()
    assert len(looks) == 1 and not (tmp_path / LEASE_FILE).exists()


def test_a_zombie_is_replaced_at_once(tmp_path, owner, looks):
    owner.kill()
    wait_for(lambda: psutil.Process(owner.pid).status() == psutil.STATUS_ZOMBIE)
    with hold_lease(tmp_path):
        assert len(looks) == 1
    assert not (tmp_path / LEASE_FILE).exists()


def test_a_silent_owner_on_another_machine_is_replaced_after_its_lease(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 6.0)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 1e-6)  # so that the first look finds the owner silent
    start = time.monotonic()
    file = tmp_path / LEASE_FILE
    file.write_text("filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=0123\nduration=6.0\nstart=1\n")
    with hold_lease(tmp_path):
        assert time.monotonic() - start >= 6
    assert "process 1 on elsewhere seems to be dead" in capsys.readouterr().out


def test_who_loses_the_lease_is_interrupted(tmp_path, interruptible):
    with pytest.raises(KeyboardInterrupt), hold_lease(tmp_path):
        (tmp_path / LEASE_FILE).unlink()
        time.sleep(500)


def test_only_folders_whose_lease_ended_long_ago_have_no_owner(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 6000.0)
    touched = int(time.time()) - 13_000
    for name, age, host, pid in (
        ("living", 0, "elsewhere", 1),
        ("recent", 11_000, "elsewhere", 1),
        ("dead", 13_000, "elsewhere", os.getpid()),
        ("suspended", 13_000, socket.gethostname(), os.getpid()),
        ("dead-here", 13_000, socket.gethostname(), 2**22 + 1),
    ):
        (tmp_path / name).mkdir()
        file = tmp_path / name / LEASE_FILE
        file.write_text(f"filelock/2\npid={pid}\nhost={host}\nmode=lease\ntoken=0123\nduration=6.0\nstart=1\n")
        os.utime(file, (touched + 13_000 - age,) * 2)
    (tmp_path / "ended").mkdir()
    assert {folder.name: alive for folder, alive in ownerless(tmp_path)} == {"dead": touched, "dead-here": touched}
