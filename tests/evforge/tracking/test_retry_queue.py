import pytest

from evforge.tracking import retry_queue
from evforge.tracking.retry_queue import EVERY_S, PATIENCE_S, RetryQueue


class Server:
    """Takes letters unless it is away."""

    def __init__(self):
        self.away, self.got, self.tries = False, [], 0

    def probe(self):
        if self.away:
            raise ConnectionError("refused")

    def letter(self, text):
        def deliver():
            self.tries += 1
            if self.away:
                raise ConnectionError("refused")
            if text == "never":
                raise OSError("the server fails at this one")
            if text == "bad":
                raise KeyError("bad")
            self.got.append(text)

        return text, deliver


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retry_queue, "time", clock)
    return clock


def test_letters_arrive_in_their_order_once_the_server_is_back(clock, caplog):
    server = Server()
    box = RetryQueue("http://server", server.probe)
    box.send(*server.letter("a"))
    server.away = True
    for text in "bcd":
        box.send(*server.letter(text))
    assert server.tries == 1 + 4  # one, then three more tries of the first that failed; the others wait
    server.away = False
    box.send(*server.letter("e"))
    assert server.got == ["a"]  # nobody has asked again so soon
    clock.now += EVERY_S
    box.send(*server.letter("f"))
    assert server.got == list("abcdef")
    assert [record.message for record in caplog.records] == [
        "http://server does not answer: b and later writes are queued (refused)",
        "http://server answers again: the queued writes were sent",
    ]


def test_a_bad_letter_holds_no_other_up(clock, caplog):
    server = Server()
    box = RetryQueue("http://server", server.probe)
    server.away = True
    for text in ("bad", "a"):
        box.send(*server.letter(text))
    server.away = False
    box.flush()
    assert server.got == ["a"]
    assert "not recorded: bad" in caplog.text
    with pytest.raises(KeyError):  # its sender is still there
        box.send(*server.letter("bad"))


def test_a_letter_that_a_server_always_fails_at_is_given_up(clock, caplog):
    server = Server()
    box = RetryQueue("http://server", server.probe)
    for text in ("a", "never", "b"):
        box.send(*server.letter(text))
    assert server.got == ["a", "b"] and server.tries == 1 + 4 + 1
    assert "not recorded: never" in caplog.text


def test_patience_ends(clock, caplog):
    server = Server()
    box = RetryQueue("http://server", server.probe)
    server.away = True
    box.send(*server.letter("a"))
    start = clock.now
    box.flush()
    assert PATIENCE_S <= clock.now - start <= PATIENCE_S + EVERY_S
    assert "still does not answer: 1 writes are lost" in caplog.text
    server.away = False
    box.flush()
    assert server.got == []
    server.away = True
    with pytest.raises(ConnectionError):
        box.ask(server.letter("b")[1])


@pytest.mark.parametrize(("error", "later"), [(OSError(28, "full"), True), (FileNotFoundError(), False)])
def test_which_errors_pass(error, later):
    assert retry_queue._is_outage(error) is later
