import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from evforge.registry import champion_lock
from evforge.registry.champion_lock import Refusal, hold_lock, next_lock

PROCESS = """
import sys
from evforge.tracking.tracker import Tracker
from test_champion_lock import take_ten

client = Tracker(sys.argv[1], "exp").client
print("ready", flush=True)
sys.stdin.readline()
print(*take_ten(client))
"""


def take_ten(client) -> list[int]:
    """The numbers of the locks acquired, of the first ten."""
    taken = []
    for number in range(1, 11):
        with suppress(Refusal), hold_lock(client, "street", number):
            taken.append(number)
    return taken


def test_locks_follow_each_other(tracker):
    client = tracker.client
    assert next_lock(client, "street", 0) == 1
    with hold_lock(client, "street", 1) as check:
        check()
        with pytest.raises(Refusal, match=r"another process has been moving the champion of street for \d+ s"):
            next_lock(client, "street", 0)
        with pytest.raises(Refusal, match="has been moving"):
            next_lock(client, "street", 1)
        assert next_lock(client, "road", 0) == 1
        with pytest.raises(Refusal, match="another process moved the champion"), hold_lock(client, "street", 1):
            pass
    assert next_lock(client, "street", 0) == next_lock(client, "street", 1) == 2
    assert next_lock(client, "street", 7) == 8  # the locks before were removed by `mlflow gc`
    assert not [experiment for experiment in client.search_experiments() if "turn" in experiment.name]


def test_a_lock_is_released_after_an_error(tracker):
    with pytest.raises(OSError, match="away"), hold_lock(tracker.client, "street", 1):
        raise OSError("away")
    assert next_lock(tracker.client, "street", 0) == 2


def test_the_lock_of_a_dead_process_is_ended(tracker, monkeypatch):
    client = tracker.client
    with hold_lock(client, "street", 1) as check:
        monkeypatch.setattr(champion_lock, "LEASE_S", 0.0)
        assert next_lock(client, "street", 0) == 2
        with pytest.raises(Refusal, match="it took longer than 0 s, and another process ended the lock"):
            check()


def test_an_answer_that_was_lost(tracker, monkeypatch):
    """The server created the lock, its answer did not arrive, and the client's repeated call is refused."""
    create = tracker.client.create_experiment

    def twice(*args, **kwargs):
        create(*args, **kwargs)
        return create(*args, **kwargs)

    monkeypatch.setattr(tracker.client, "create_experiment", twice)
    with hold_lock(tracker.client, "street", 1) as check:
        check()


def test_of_two_processes_one_acquires_a_lock(tracker):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", PROCESS, tracker.uri], **pipes) as other:
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        mine = take_ten(tracker.client)
        theirs = [int(number) for number in other.stdout.read().split()]
    assert sorted(mine + theirs) == list(range(1, 11))
