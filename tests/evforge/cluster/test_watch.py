"""The watch over the processes of Ray that a driver needs; a gRPC server replaces each of them."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import grpc
import pytest

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
        self.grpc.start()

    def stop(self):
        self.grpc.stop(None).wait()


@pytest.fixture
def servers(monkeypatch):
    """Servers as the head and the raylet of the node to which this process is connected."""
    with ThreadPoolExecutor(2) as pool:
        servers = {"head": Server(pool), "raylet": Server(pool)}
        context = SimpleNamespace(gcs_address=servers["head"].address, get_node_id=lambda: "here")
        here = {"NodeManagerAddress": "127.0.0.1", "NodeManagerPort": servers["raylet"].port, "NodeID": "here"}
        elsewhere = {"NodeManagerAddress": "10.0.0.9", "NodeManagerPort": 1, "NodeID": "there"}
        monkeypatch.setattr("ray.get_runtime_context", lambda: context)
        monkeypatch.setattr("ray.nodes", lambda: [elsewhere, here])
        monkeypatch.setattr(watch, "CHECK_S", 0.2)
        monkeypatch.setattr(watch, "LOST_S", 0.5)
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
    cleaned, begin = [], time.monotonic()
    with pytest.raises(RayLostError, match=GONE[lost]), watched():
        servers[lost].stop()
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            cleaned.append("as after Ctrl-C")
            raise
    assert cleaned and time.monotonic() - begin < 20


def test_a_block_that_cannot_be_interrupted_is_ended(servers, monkeypatch, capfd):
    ended = []
    monkeypatch.setattr(watch, "STUCK_S", 0.3)
    monkeypatch.setattr("os._exit", ended.append)
    with pytest.raises(RayLostError), watched():
        monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: None)
        servers["raylet"].stop()
        end = time.monotonic() + 8
        while not ended:
            time.sleep(0.1)
            assert time.monotonic() < end
        raise RuntimeError("would not be reached")
    assert ended == [2]
    assert "evforge: error: Ray on this node (127.0.0.1) no longer answers" in capfd.readouterr().err


def test_a_block_that_cleans_up_is_not_ended(servers, monkeypatch):
    ended = []
    monkeypatch.setattr(watch, "STUCK_S", 0.1)
    monkeypatch.setattr("os._exit", ended.append)
    with pytest.raises(RayLostError), watched():
        servers["head"].stop()
        with suppress(KeyboardInterrupt):
            time.sleep(30)
        time.sleep(0.5)  # cleanup
        raise KeyboardInterrupt
    assert ended == []


def test_one_check_that_takes_long_is_no_loss(servers, monkeypatch):
    answers, slow = watch.answers, [True]

    def suspended(target, timeout_s):
        if slow and target == servers["head"].address:
            slow.pop()
            time.sleep(1)  # longer than LOST_S
            return False
        return answers(target, 5)

    monkeypatch.setattr(watch, "answers", suspended)
    with watched():
        time.sleep(2.5)
    assert not slow


def test_an_error_after_a_loss_names_what_is_lost(servers):
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
