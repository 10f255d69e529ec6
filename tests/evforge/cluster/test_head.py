"""The watch over the head of a cluster; a gRPC server replaces the head."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import grpc
import pytest

from evforge.cluster import head
from evforge.cluster.head import HeadLostError


@pytest.fixture
def server(monkeypatch):
    """A server that is started, as the head to which this process is connected."""
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        server.address = f"127.0.0.1:{port}"
        monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address=server.address))
        monkeypatch.setattr(head, "CHECK_S", 0.2)
        monkeypatch.setattr(head, "LOST_S", 0.5)
        yield server
        server.stop(None).wait()


def test_a_server_answers_until_it_stops(server):
    assert head.answers(server.address, 5)
    server.stop(None).wait()
    assert not head.answers(server.address, 0.2)


def test_a_lost_head_interrupts_the_block_so_that_it_can_clean_up(server):
    cleaned, begin = [], time.monotonic()
    message = "^the head of the cluster at c:6379 no longer answers"
    with pytest.raises(HeadLostError, match=message), head.head_watched("c:6379"):
        server.stop(None).wait()
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            cleaned.append("as after Ctrl-C")
            raise
    assert cleaned and time.monotonic() - begin < 20


def test_the_message_comes_also_if_the_block_cannot_be_interrupted(server, monkeypatch, capfd):
    monkeypatch.setattr(head, "STUCK_S", 0.3)
    with pytest.raises(HeadLostError), head.head_watched("c:6379"):
        server.stop(None).wait()
        end = time.monotonic() + 8
        while "evforge: the head of the cluster at c:6379 no longer answers" not in capfd.readouterr().err:
            with suppress(KeyboardInterrupt):
                time.sleep(0.1)
            assert time.monotonic() < end
        raise RuntimeError("could not connect")


def test_an_error_while_the_head_is_lost_names_the_head(server):
    with pytest.raises(HeadLostError, match="no longer answers") as failure, head.head_watched("c:6379"):
        server.stop(None).wait()
        raise RuntimeError("could not connect")
    assert str(failure.value.__cause__) == "could not connect"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_other_errors_are_raised_as_they_are(server, error):
    with pytest.raises(type(error)) as failure, head.head_watched("c:6379"):
        raise error
    assert failure.value is error


def test_the_signal_handler_is_restored(server):
    before = signal.getsignal(signal.SIGUSR2)
    with head.head_watched("c:6379"):
        assert signal.getsignal(signal.SIGUSR2) is not before
    assert signal.getsignal(signal.SIGUSR2) is before
