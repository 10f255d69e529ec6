import os

import pytest

from evforge import EvForgeError
from evforge.cluster import jobs


class FakeClient:
    """A job server whose connection breaks: each round of the log is a list of texts, then an error or the end."""

    def __init__(self, rounds, status="SUCCEEDED", exit_code=0, message="done"):
        from ray.job_submission import JobDetails

        self.rounds = iter(rounds)
        self.details = JobDetails(
            type="SUBMISSION",
            submission_id="job-1",
            status=status,
            entrypoint="python -m evforge train",
            driver_exit_code=exit_code,
            message=message,
            start_time=0,
        )
        self.asked = 0

    async def tail_job_logs(self, job_id):
        for text in next(self.rounds, []):
            if isinstance(text, Exception):
                raise text
            yield text

    def get_job_info(self, job_id):
        self.asked += 1
        return self.details


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(jobs, "PAUSE_S", 0)


def test_a_broken_connection_is_made_again_and_no_line_is_missing_or_twice(capsys):
    rounds = [
        ["one\ntw", RuntimeError("closed")],
        ["one\n", "two\nthr"],
        [ConnectionError("away")],
        ["one\ntwo\nthree\n"],
    ]
    client = FakeClient(rounds)
    client.get_job_info = lambda job_id: client.details if client.rounds.__length_hint__() == 0 else _running(client)
    assert jobs.follow(client, "job-1") == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\njob job-1 succeeded\n"


def _running(client):
    return client.details.model_copy(update={"status": type(client.details.status)("RUNNING")})


@pytest.mark.parametrize(
    ("status", "exit_code", "returned", "line"),
    [
        ("FAILED", 2, 2, "job job-1 failed"),
        ("FAILED", None, 1, "job job-1 failed: no such package"),
        ("STOPPED", None, 1, "job job-1 stopped: no such package"),
    ],
)
def test_the_job_s_exit_code_is_ours(status, exit_code, returned, line, capsys):
    client = FakeClient([["text\n"]], status, exit_code, "no such\n package")
    assert jobs.follow(client, "job-1") == returned
    assert capsys.readouterr().out == f"text\n{line}\n"


def test_a_cluster_that_stays_away_is_given_up(monkeypatch):
    monkeypatch.setattr(jobs, "RECONNECTS", 2)
    client = FakeClient([[ConnectionError("away")]] * 3)
    with pytest.raises(EvForgeError, match="job job-1: its cluster no longer answers: away"):
        jobs.follow(client, "job-1")
    assert client.asked == 1  # at the beginning: there is such a job


def test_a_cluster_may_be_away_for_as_many_attempts_as_there_are(capsys):
    rounds = [[ConnectionError("away")]] * jobs.RECONNECTS
    assert jobs.follow(FakeClient([*rounds, ["text\n"]]), "job-1") == 0
    assert capsys.readouterr().out == "text\njob job-1 succeeded\n"
    with pytest.raises(EvForgeError, match="its cluster no longer answers: away"):
        jobs.follow(FakeClient([*rounds, *rounds[:1], ["text\n"]]), "job-1")


def test_addresses(monkeypatch):
    for name in jobs.ADDRESS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert jobs.server_address() == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://second:8265/")
    assert jobs.server_address() == "http://second:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://first")
    assert jobs.server_address() == "https://first"
    assert jobs.server_address("http://given:1") == "http://given:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ValueError, match="RAY_ADDRESS: got '10.0.0.1:6379', allowed: address of Ray's dashboard"):
        jobs.server_address()


def test_tokens_are_found_where_ray_looks_for_them(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert _mode(monkeypatch) is None
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "somewhere")
    assert _mode(monkeypatch) == "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("secret")
    assert _mode(monkeypatch) == "token"


def _mode(monkeypatch) -> str | None:
    """The variable that `use_token` sets, which is removed again."""
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "")
        patch.delenv("RAY_AUTH_MODE")
        jobs.use_token()
        return os.environ.get("RAY_AUTH_MODE")


def job(job_id, start_time, status="RUNNING", **changes):
    """A job that started `start_time` milliseconds after 1970."""
    details = FakeClient([], status, message="is\n running").details
    return details.model_copy(update={"submission_id": job_id, "start_time": start_time, **changes})


class Server:
    """A job server whose jobs end after a number of questions for their state."""

    def __init__(self, *known, questions=0):
        self.known, self.questions, self.stopped = known, questions, []

    def list_jobs(self):
        return self.known

    def get_job_info(self, job_id):
        found = [one for one in self.known if one.submission_id == job_id]
        if not found:
            raise RuntimeError("404")
        return found[0]

    def stop_job(self, job_id):
        self.stopped.append(job_id)

    def get_job_status(self, job_id):
        self.questions -= 1
        return type(self.known[0].status)("RUNNING" if self.questions >= 0 else "STOPPED")


@pytest.fixture
def _utc(monkeypatch):
    monkeypatch.setattr(jobs.time, "localtime", jobs.time.gmtime)


@pytest.mark.usefixtures("_utc")
def test_jobs_are_listed_by_their_start():
    server = Server(job("b", 86_400_000), job(None, 5), job("a", 3_723_000, "FAILED"), job("c", None))
    assert jobs.overview(server).splitlines() == [
        "c  RUNNING    1970-01-01 00:00:00  python -m evforge train",
        "a  FAILED     1970-01-01 01:02:03  python -m evforge train",
        "b  RUNNING    1970-01-02 00:00:00  python -m evforge train",
    ]
    assert jobs.overview(Server(job(None, 5))) == "no jobs"


@pytest.mark.usefixtures("_utc")
def test_the_state_of_a_job():
    found = jobs.status(Server(job("a", 1000)), "a")
    assert found == "a  RUNNING    1970-01-01 00:00:01  python -m evforge train\nis running"


def test_a_stop_waits_until_the_job_has_ended(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    server = Server(job("a", 1000), questions=3)
    assert jobs.stop(server, "a") == "job a stopped"
    assert (server.stopped, now) == (["a"], [1.5])
    assert jobs.stop(Server(job("a", 1000), questions=10**6), "a") == "job a running"
    assert now == [1.5 + jobs.STOP_S]


@pytest.mark.parametrize("call", [jobs.status, jobs.stop])
def test_a_job_that_the_cluster_does_not_know(call):
    server = Server(job("a", 1000))
    with pytest.raises(EvForgeError, match="^job b: not known to the cluster; `evforge submit --list` shows its jobs"):
        call(server, "b")
    assert server.stopped == []
