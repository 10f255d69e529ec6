"""Client of Ray's job server: connect with a token, print the log of a job, show the status of jobs, and stop a job."""

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from evforge import EvForgeError
from evforge.cluster.ray_compat import quiet_job_client
from evforge.cluster.session import kept_variable

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

__all__ = ["DEFAULT_ADDRESS", "connect", "follow", "overview", "server_address", "status", "stop", "use_token"]

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
RECONNECTS, PAUSE_S = 30, 2.0  # long enough to restart a tunnel or to wake a laptop
STOP_S = 60.0


def server_address(address: str | None = None) -> str:
    """Return the address of the job server.

    The first of these values that is set is used: `address`, RAY_API_SERVER_ADDRESS, RAY_ADDRESS, `DEFAULT_ADDRESS`.

    Raises:
        ValueError: the value is not an HTTP address.
    """
    given = {"--address": address, **{name: os.environ.get(name) for name in ADDRESS_VARIABLES}}
    for source, value in given.items():
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{source}: got {value!r}, allowed: address of Ray's dashboard, such as {DEFAULT_ADDRESS}")
        if value:
            return value.rstrip("/")
    return DEFAULT_ADDRESS


def use_token() -> None:
    """Set RAY_AUTH_MODE so that Ray sends an authentication token, if the user has a token.

    Call this function before Ray is imported, because Ray reads this environment variable during the import.
    """
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if named or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def connect(address: str) -> "JobSubmissionClient":
    """Connect to the job server at `address`.

    Ray reads the authentication token from one of three places: the environment variable RAY_AUTH_TOKEN, the file that
    RAY_AUTH_TOKEN_PATH names, or the file `~/.ray/auth_token`, which `ray get-auth-token --generate` writes.

    Raises:
        EvForgeError: nothing answers at the address, the server is not Ray, or the server rejects the token.
    """
    use_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    quiet_job_client()
    with kept_variable(ADDRESS_VARIABLES[0]):
        os.environ[ADDRESS_VARIABLES[0]] = address  # this variable takes precedence over the argument below
        try:
            return JobSubmissionClient(address)
        except AuthenticationError:
            raise EvForgeError(
                f"{address}: the cluster wants its token: copy ~/.ray/auth_token of its head to the same path here, "
                "or set RAY_AUTH_TOKEN_PATH to the path of a copy"
            ) from None
        except (RuntimeError, OSError) as error:
            raise EvForgeError(
                f"{address}: no Ray answers there ({error}); allowed: --address http://HOST:8265, or a tunnel to the "
                "head, such as `ray dashboard cluster.yaml`"
            ) from None


def follow(client: "JobSubmissionClient", job_id: str) -> int:
    """Print the log of a job until the job ends. After a lost connection, reconnect and continue the log.

    Returns:
        Exit code of the job's command. 1 if there is no exit code because the job was stopped or did not start.

    Raises:
        EvForgeError: there is no such job, or the cluster no longer answers.
    """
    import aiohttp

    _details(client, job_id)
    log, failures = _Log(), 0
    while True:
        try:
            asyncio.run(log.print_new(client, job_id))
            found = client.get_job_info(job_id)
            if found.status.is_terminal():
                break
            failures = 0
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            failures += 1
            if failures > RECONNECTS:
                raise EvForgeError(f"job {job_id}: its cluster no longer answers: {error}") from None
        time.sleep(PAUSE_S)
    failed = found.status != "SUCCEEDED"
    reason = f": {' '.join((found.message or '').split())}" if failed and found.driver_exit_code in (None, 0) else ""
    print(f"job {job_id} {found.status.lower()}{reason}", flush=True)
    return (found.driver_exit_code or 1) if failed else 0


class _Log:
    """Prints the log of a job.

    It counts the printed characters, so that the log continues at the right place after a reconnection.
    """

    def __init__(self) -> None:
        self.shown = 0

    async def print_new(self, client: "JobSubmissionClient", job_id: str) -> None:
        position = 0
        async for text in client.tail_job_logs(job_id):  # starts at the beginning of the log
            print(text[max(0, self.shown - position) :], end="", flush=True)
            position += len(text)
            self.shown = max(self.shown, position)


def status(client: "JobSubmissionClient", job_id: str) -> str:
    """Return two lines: first id, status, start time and command of the job, then Ray's message about the job.

    Raises:
        EvForgeError: there is no such job.
    """
    found = _details(client, job_id)
    return f"{_line(found)}\n{' '.join((found.message or '').split())}"


def stop(client: "JobSubmissionClient", job_id: str) -> str:
    """Interrupt a job and wait at most `STOP_S` seconds until the job ends. Return a line with the job's status.

    Raises:
        EvForgeError: there is no such job.
    """
    _details(client, job_id)
    client.stop_job(job_id)
    end = time.monotonic() + STOP_S
    while not client.get_job_status(job_id).is_terminal() and time.monotonic() < end:
        time.sleep(0.5)
    return f"job {job_id} {client.get_job_status(job_id).lower()}"


def overview(client: "JobSubmissionClient") -> str:
    """Return a text with one line per submitted job: id, status, start time and command. The newest job is last."""
    jobs = sorted((job for job in client.list_jobs() if job.submission_id), key=lambda job: job.start_time or 0)
    return "\n".join(map(_line, jobs)) or "no jobs"


def _details(client: "JobSubmissionClient", job_id: str) -> "JobDetails":
    try:
        return client.get_job_info(job_id)
    except RuntimeError:
        raise EvForgeError(f"job {job_id}: not known to the cluster; `evforge submit --list` shows its jobs") from None


def _line(job: "JobDetails") -> str:
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((job.start_time or 0) / 1000))
    return f"{job.submission_id}  {job.status!s:<9}  {started}  {job.entrypoint}"
