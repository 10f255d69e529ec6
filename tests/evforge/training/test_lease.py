import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

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
import sys, time
from pathlib import Path
from evforge.training import lease
lease.LEASE_S, lease.HEARTBEAT_S = 6.0, 0.5
with lease.hold_lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 6.0)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.5)


@pytest.fixture
def owner(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_living_owner_is_named(tmp_path, owner):
    with (
        pytest.raises(EvForgeError, match=f"process {owner.pid} on .* is working in this folder"),
        hold_lease(tmp_path),
    ):
        pass
    assert (tmp_path / LEASE_FILE).exists()


def test_a_dead_owner_is_replaced_at_once(tmp_path, owner):
    owner.kill()
    owner.wait()
    start = time.monotonic()
    with hold_lease(tmp_path):
        assert f"pid={os.getpid()}" in (tmp_path / LEASE_FILE).read_text()
    assert time.monotonic() - start < 3 and not (tmp_path / LEASE_FILE).exists()


def test_a_zombie_is_replaced_at_once(tmp_path, owner):
    owner.kill()
    while psutil.Process(owner.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    start = time.monotonic()
    with hold_lease(tmp_path):
        assert time.monotonic() - start < 3
    assert not (tmp_path / LEASE_FILE).exists()


def test_a_silent_owner_on_another_machine_is_replaced_after_its_lease(tmp_path, capsys):
    file = tmp_path / LEASE_FILE
    file.write_text("filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=0123\nduration=6.0\nstart=1\n")
    start = time.monotonic()
    with hold_lease(tmp_path):
        assert 5.5 < time.monotonic() - start < 11
    assert "process 1 on elsewhere seems to be dead" in capsys.readouterr().out


def test_who_loses_the_lease_is_interrupted(tmp_path, interruptible):
    with pytest.raises(KeyboardInterrupt), hold_lease(tmp_path):
        (tmp_path / LEASE_FILE).unlink()
        time.sleep(10)


def test_only_folders_whose_lease_ended_long_ago_have_no_owner(tmp_path):
    for name, age, host, pid in (
        ("living", 0, "elsewhere", 1),
        ("recent", 11, "elsewhere", 1),
        ("dead", 13, "elsewhere", os.getpid()),
        ("suspended", 13, socket.gethostname(), os.getpid()),
        ("dead-here", 13, socket.gethostname(), 2**22 + 1),
    ):
        (tmp_path / name).mkdir()
        file = tmp_path / name / LEASE_FILE
        file.write_text(f"filelock/2\npid={pid}\nhost={host}\nmode=lease\ntoken=0123\nduration=6.0\nstart=1\n")
        os.utime(file, (time.time() - age, time.time() - age))
    (tmp_path / "ended").mkdir()
    assert [folder.name for folder, _ in ownerless(tmp_path)] == ["dead", "dead-here"]
    assert all(12 < time.time() - alive < 20 for _, alive in ownerless(tmp_path))
