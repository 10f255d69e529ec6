import pytest

from evforge.tracking import outbox, retry_queue
from evforge.tracking.outbox import Write
from evforge.tracking.retry_queue import EVERY_S, PATIENCE_S, RetryQueue


class Server:
    """Takes letters unless it is away."""

    def __init__(self):
        self.away, self.got, self.tries = False, [], 0

    error = None
    unwanted = "never"

    def probe(self):
        if self.away:
            raise ConnectionError("refused")
        if self.error:
            raise self.error

    def make(self, write):
        self.tries += 1
        if self.error:
            raise self.error
        if self.away:
            raise ConnectionError("refused")
        if write.what == self.unwanted:
            raise OSError("the server fails at this one")
        if write.what == "bad":
            raise KeyError("bad")
        self.got.append(write.what)


def letter(text):
    return Write(text, "letter", {"text": text})


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
    monkeypatch.setattr(retry_queue, "_left", set())
    monkeypatch.setattr(retry_queue, "_lost", [])
    return clock


def test_letters_arrive_in_their_order_once_the_server_is_back(clock, caplog):
    server = Server()
    box = RetryQueue("http://server", server.probe, server.make)
    box.send(letter("a"))
    server.away = True
    for text in "bcd":
        box.send(letter(text))
    assert server.tries == 1 + 4  # one, then three more tries of the first that failed; the others wait
    server.away = False
    box.send(letter("e"))
    assert server.got == ["a"]  # nobody has asked again so soon
    clock.now += EVERY_S
    box.send(letter("f"))
    assert server.got == list("abcdef")
    assert [record.message for record in caplog.records] == [
        "http://server does not answer: b and later writes are queued (refused)",
        "http://server answers again: the queued writes were sent",
    ]


def test_a_bad_letter_holds_no_other_up(clock, caplog):
    server = Server()
    box = RetryQueue("http://server", server.probe, server.make)
    server.away = True
    for text in ("bad", "a"):
        box.send(letter(text))
    server.away = False
    box.flush()
    assert server.got == ["a"]
    assert "not recorded: bad" in caplog.text
    with pytest.raises(KeyError):  # its sender is still there
        box.send(letter("bad"))


def test_a_letter_that_a_server_always_fails_at_is_given_up(clock, caplog):
    server = Server()
    box = RetryQueue("http://server", server.probe, server.make)
    for text in ("a", "never", "b"):
        box.send(letter(text))
    assert server.got == ["a", "b"] and server.tries == 1 + 4 + 1
    assert "not recorded: never" in caplog.text


def test_patience_ends(clock, caplog):
    server = Server()
    box = RetryQueue("http://server", server.probe, server.make)
    server.away = True
    box.send(letter("a"))
    start = clock.now
    box.flush()
    assert PATIENCE_S <= clock.now - start <= PATIENCE_S + EVERY_S
    assert "still does not answer: 1 writes are lost" in caplog.text
    server.away = False
    box.flush()
    assert server.got == []
    server.away = True
    with pytest.raises(ConnectionError):
        box.ask(server.probe)


def test_an_outage_is_stored_and_its_end_removes_the_file(clock, tmp_path):
    server = Server()
    box = RetryQueue("http://server", server.probe, server.make, tmp_path / "undelivered")
    box.send(letter("a"))
    assert not (tmp_path / "undelivered").exists()
    server.away = True
    for text in "bc":
        box.send(letter(text))
    (file,) = outbox.stored(tmp_path / "undelivered", "http://server")
    assert outbox.stored(tmp_path / "undelivered", "http://other") == []
    assert [line["what"] for line in outbox._lines(file)[1:]] == ["b", "c"]
    server.away = False
    box.flush()
    assert server.got == ["a", "b", "c"] and not (tmp_path / "undelivered").exists()


def test_a_killed_process_leaves_its_writes_to_the_next(clock, tmp_path, monkeypatch, caplog):
    server = Server()
    server.away = True
    dead = RetryQueue("http://server", server.probe, server.make, tmp_path)
    for text in ("a", "bad", "b"):
        dead.send(letter(text))
    (file,) = outbox.stored(tmp_path, "http://server")
    with file.open("a") as stream:
        stream.write('{"what": "c", "meth')  # the process was killed while it wrote
    server.away = False
    heir = RetryQueue("http://server", server.probe, server.make, tmp_path)
    heir.deliver_stored()
    assert server.got == []  # the process is alive and delivers them itself
    monkeypatch.setattr(outbox, "_own", set())  # as in another process
    heir.deliver_stored()
    assert server.got == ["a", "b"] and not file.exists()
    assert "not recorded: bad" in caplog.text


def test_a_write_at_which_the_server_fails_is_left_to_the_next_process(clock, tmp_path, monkeypatch, caplog):
    server = Server()
    folder = tmp_path / "undelivered"
    box = RetryQueue("http://server", server.probe, server.make, folder)
    for text in ("a", "never", "b"):
        box.send(letter(text))
    box.flush()
    assert server.got == ["a", "b"]
    ((file,), lost) = retry_queue.undelivered()
    assert lost == 0
    monkeypatch.setattr(outbox, "_own", set())  # as in another process
    heir = RetryQueue("http://server", server.probe, server.make, folder)
    heir.deliver_stored()
    assert "http://server fails at 1 writes of" in caplog.text
    heir.send(letter("c"))  # is not delayed
    heir.flush()
    assert server.got == ["a", "b", "c"] and retry_queue.undelivered() == ([file], 0)
    server.away = True
    heir.deliver_stored()
    assert file.is_file()
    server.away, server.unwanted = False, ""  # its disk has space again
    heir.deliver_stored()
    assert server.got == ["a", "b", "c", "never"] and not folder.exists()


def test_only_the_writes_that_are_left_are_sent_again(clock, tmp_path, monkeypatch):
    server = Server()
    outbox.Outbox(tmp_path, "http://server").store([letter(text) for text in ("end", "never", "b")])
    monkeypatch.setattr(outbox, "_own", set())
    heir = RetryQueue("http://server", server.probe, server.make, tmp_path)
    heir.deliver_stored()
    heir.deliver_stored()
    (file,) = outbox.stored(tmp_path, "http://server")
    assert server.got == ["end", "b"]
    assert [line["what"] for line in outbox._lines(file)[1:]] == ["never"]


def test_a_write_that_cannot_be_stored_either_is_counted_as_lost(clock, tmp_path):
    (tmp_path / "undelivered").touch()  # no folder can be made here, as on a full disk
    server = Server()
    box = RetryQueue("http://server", server.probe, server.make, tmp_path / "undelivered")
    for text in ("a", "never"):
        box.send(letter(text))
    server.away = True
    box.send(letter("b"))
    box.flush()
    assert retry_queue.undelivered() == ([], 2) and retry_queue.undelivered() == ([], 0)


def test_writes_that_a_flush_has_left_survive_the_next_success(clock, tmp_path):
    server = Server()
    box = RetryQueue("http://server", server.probe, server.make, tmp_path)
    server.away = True
    box.send(letter("a"))
    box.flush()
    server.away = False
    clock.now += EVERY_S
    box.send(letter("b"))
    (file,) = outbox.stored(tmp_path, "http://server")
    assert server.got == ["b"] and outbox._lines(file)[1]["what"] == "a"


class Rejected(Exception):
    error_code = "UNAUTHENTICATED"


def test_rejected_requests_are_queued_but_not_waited_for(clock):
    server = Server()
    box = RetryQueue("http://server", server.probe, server.make)
    server.error = Rejected("401")
    box.send(letter("a"))  # an expired token must not end a training
    with pytest.raises(Rejected):
        box.ask(server.probe)
    server.error = None
    box.flush()
    assert server.got == ["a"]


@pytest.mark.parametrize(("error", "later"), [(OSError(28, "full"), True), (FileNotFoundError(), False)])
def test_which_errors_pass(error, later):
    assert retry_queue._is_outage(error) is later
