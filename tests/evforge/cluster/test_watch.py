"""The watch over the processes of Ray that a driver needs; a gRPC server replaces each of them."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import grpc
import pytest
from waiting import wait_for

from evforge.cluster import watch
from evforge.cluster.watch import RayLostError

GONE = {
    "head": "^the head of the cluster at c:6379 no longer answers$",
    "raylet": r"^Ray on this node \(127.0.0.1\) no longer answers$",
}


class Server:
    def __init__(self, pool):
        self.grpc = grpc.server(pool)
        self.port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"
        self.stopped = False
        self.grpc.start()

    def stop(self):
        self.stopped = True
        self.grpc.stop(None).wait()


@pytest.fixture
def servers(monkeypatch):
    """Servers as the head and the raylet of the node to which this process is connected.

    A server that runs has as long for its answer as it takes on a busy machine.
    """
    answers = watch.answers

    def patient(target, timeout_s):
        stopped = any(server.stopped for server in servers.values() if server.address == target)
        return answers(target, timeout_s if stopped else 300)

    with ThreadPoolExecutor(2) as pool:
        servers = {"head": Server(pool), "raylet": Server(pool)}
        context = SimpleNamespace(gcs_address=servers["head"].address, get_node_id=lambda: "here")
        here = {"NodeManagerAddress": "127.0.0.1", "NodeManagerPort": servers["raylet"].port, "NodeID": "here"}
        elsewhere = {"NodeManagerAddress": "10.0.0.9", "NodeManagerPort": 1, "NodeID": "there"}
        monkeypatch.setattr("ray.get_runtime_context", lambda: context)
        monkeypatch.setattr("ray.nodes", lambda: [elsewhere, here])
        monkeypatch.setattr(watch, "CHECK_S", 0.2)
        monkeypatch.setattr(watch, "LOST_S", 0.5)
        monkeypatch.setattr(watch, "STUCK_S", 300)
        monkeypatch.setattr(watch, "answers", patient)
        yield servers
        for server in servers.values():
            server.stop()


def watched():
    return watch.ray_watched("the cluster at c:6379")


def test_a_server_answers_until_it_stops(servers):
    server = servers["head"]
    assert watch.answers(server.address, 5)
    server.stop()
    assert not watch.answers(server.address, 0.2)


@pytest.mark.parametrize("lost", GONE)
def test_a_loss_interrupts_the_block_so_that_it_can_clean_up(servers, lost):
    cleaned = []
    with pytest.raises(RayLostError, match=GONE[lost]), watched():
        try:
            servers[lost].stop()
            time.sleep(300)
        except KeyboardInterrupt:
            cleaned.append("as after Ctrl-C")
            raise
    assert cleaned


def test_a_block_that_cannot_be_interrupted_is_ended(servers, monkeypatch, capfd):
    ended = []
    monkeypatch.setattr(watch, "STUCK_S", 0.3)
    monkeypatch.setattr("os._exit", ended.append)
    with pytest.raises(RayLostError), watched():
        monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: None)
        servers["raylet"].stop()
        wait_for(lambda: ended)
        raise RuntimeError("would not be reached")
    assert ended == [2]
    assert "evforge: error: Ray on this node (127.0.0.1) no longer answers" in capfd.readouterr().err


def test_a_block_that_cleans_up_is_not_ended(servers, monkeypatch):
    ended, interrupted, kill = [], threading.Event(), signal.pthread_kill

    def kill_and_wait(thread, number):
        kill(thread, number)
        interrupted.wait(300)

    monkeypatch.setattr(watch, "STUCK_S", 0.1)
    monkeypatch.setattr(signal, "pthread_kill", kill_and_wait)
    monkeypatch.setattr("os._exit", ended.append)
    with pytest.raises(RayLostError), watched():
        with suppress(KeyboardInterrupt):
            servers["head"].stop()
            time.sleep(300)
        interrupted.set()
        time.sleep(0.5)  # cleanup, longer than STUCK_S
        raise KeyboardInterrupt
    assert ended == []


def test_one_check_that_takes_long_is_no_loss(servers, monkeypatch):
    answers, asked = watch.answers, []

    def suspended(target, timeout_s):
        asked.append(target)
        if asked == [servers["head"].address]:
            time.sleep(1)  # longer than LOST_S
            return False
        return answers(target, timeout_s)

    monkeypatch.setattr(watch, "answers", suspended)
    with watched():
        wait_for(lambda: asked.count(servers["head"].address) > 2)


def test_an_error_after_a_loss_names_what_is_lost(servers, monkeypatch):
    monkeypatch.setattr(watch, "LOST_S", 300)  # the error comes first
    with pytest.raises(RayLostError, match="no longer answers") as failure, watched():
        servers["head"].stop()
        raise RuntimeError("could not connect")
    assert str(failure.value.__cause__) == "could not connect"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_other_errors_are_raised_as_they_are(servers, error):
    with pytest.raises(type(error)) as failure, watched():
        raise error
    assert failure.value is error


def test_the_signal_handler_is_restored(servers):
    before = signal.getsignal(signal.SIGUSR2)
    with watched():
        assert signal.getsignal(signal.SIGUSR2) is not before
    assert signal.getsignal(signal.SIGUSR2) is before
