import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from evforge.registry import champion_lock
from evforge.registry.champion_lock import Refusal, next_turn, take_turn

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
    """The numbers of the turns got, of the first ten."""
    taken = []
    for number in range(1, 11):
        with suppress(Refusal), take_turn(client, "street", number):
            taken.append(number)
    return taken


def test_turns_follow_each_other(tracker):
    client = tracker.client
    assert next_turn(client, "street", 0) == 1
    with take_turn(client, "street", 1) as check:
        check()
        with pytest.raises(Refusal, match="the champion of street is being moved by another process, since 0 s"):
            next_turn(client, "street", 0)
        with pytest.raises(Refusal, match="being moved"):
            next_turn(client, "street", 1)
        assert next_turn(client, "road", 0) == 1
        with pytest.raises(Refusal, match="another process moved the champion"), take_turn(client, "street", 1):
            pass
    assert next_turn(client, "street", 0) == next_turn(client, "street", 1) == 2
    assert next_turn(client, "street", 7) == 8  # the turns before were removed by `mlflow gc`
    assert not [experiment for experiment in client.search_experiments() if "turn" in experiment.name]


def test_a_turn_ends_with_an_error(tracker):
    with pytest.raises(OSError, match="away"), take_turn(tracker.client, "street", 1):
        raise OSError("away")
    assert next_turn(tracker.client, "street", 0) == 2


def test_a_turn_whose_process_died(tracker, monkeypatch):
    client = tracker.client
    with take_turn(client, "street", 1) as check:
        monkeypatch.setattr(champion_lock, "LEASE_S", 0.0)
        assert next_turn(client, "street", 0) == 2
        with pytest.raises(Refusal, match="it took longer than the 0 s of a turn"):
            check()


def test_an_answer_that_was_lost(tracker, monkeypatch):
    """The server took the turn, its answer did not arrive, and the client's repeated call is refused."""
    create = tracker.client.create_experiment

    def twice(*args, **kwargs):
        create(*args, **kwargs)
        return create(*args, **kwargs)

    monkeypatch.setattr(tracker.client, "create_experiment", twice)
    with take_turn(tracker.client, "street", 1) as check:
        check()


def test_of_two_processes_one_gets_a_turn(tracker):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", PROCESS, tracker.uri], **pipes) as other:
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        mine = take_ten(tracker.client)
        theirs = [int(number) for number in other.stdout.read().split()]
    assert sorted(mine + theirs) == list(range(1, 11))
