"""Ray's job server: the way in with its token, a job's log as it grows, and what became of the job."""

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from evforge import EvForgeError
from evforge.cluster.ray_compat import quiet_job_client

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

__all__ = ["DEFAULT_ADDRESS", "connect", "follow", "overview", "server_address", "status", "stop", "use_token"]

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
RECONNECTS, PAUSE_S = 30, 2.0  # a laptop that slept, or a tunnel that is set up again
STOP_S = 60.0


def server_address(address: str | None = None) -> str:
    """The job server's address: the given one, that of RAY_API_SERVER_ADDRESS or RAY_ADDRESS, or this machine's.

    Raises:
        ValueError: it is no address of a job server.
    """
    given = {"--address": address, **{name: os.environ.get(name) for name in ADDRESS_VARIABLES}}
    for source, value in given.items():
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{source}: got {value!r}, allowed: address of Ray's dashboard, such as {DEFAULT_ADDRESS}")
        if value:
            return value.rstrip("/")
    return DEFAULT_ADDRESS


def use_token() -> None:
    """Make Ray send the token if there is one. Ray asks when it is imported, so this comes before."""
    if "RAY_AUTH_MODE" not in os.environ and _has_token():
        os.environ["RAY_AUTH_MODE"] = "token"


def connect(address: str) -> "JobSubmissionClient":
    """A client of the job server at `address`.

    The token is that of the variable RAY_AUTH_TOKEN, of the file that RAY_AUTH_TOKEN_PATH names, or of
    `~/.ray/auth_token`, where `ray get-auth-token --generate` puts it.

    Raises:
        EvForgeError: nothing answers there, it is no Ray, or it refuses the token.
    """
    use_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    quiet_job_client()
    known = os.environ.get(ADDRESS_VARIABLES[0])
    os.environ[ADDRESS_VARIABLES[0]] = address  # the variable beats the argument
    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise EvForgeError(
            f"{address}: the cluster wants its token: copy ~/.ray/auth_token of its head to the same place here, "
            "or name a copy in RAY_AUTH_TOKEN_PATH"
        ) from None
    except (RuntimeError, OSError) as error:
        raise EvForgeError(
            f"{address}: no Ray answers there ({error}); allowed: --address http://HOST:8265, or a tunnel to the head, "
            "such as `ray dashboard cluster.yaml`"
        ) from None
    finally:
        if known is None:
            del os.environ[ADDRESS_VARIABLES[0]]
        else:
            os.environ[ADDRESS_VARIABLES[0]] = known


def follow(client: "JobSubmissionClient", job_id: str) -> int:
    """Print a job's log until the job ends; a lost connection is made again and the log goes on where it was.

    Returns:
        Exit code of the job's command; 1 if it has none, because it was stopped or never started.

    Raises:
        EvForgeError: there is no such job, or its cluster no longer answers.
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
    """How much of a job's log was printed."""

    def __init__(self) -> None:
        self.shown = 0

    async def print_new(self, client: "JobSubmissionClient", job_id: str) -> None:
        position = 0
        async for text in client.tail_job_logs(job_id):  # from its beginning, each time
            print(text[max(0, self.shown - position) :], end="", flush=True)
            position += len(text)
            self.shown = max(self.shown, position)


def status(client: "JobSubmissionClient", job_id: str) -> str:
    """One line about a job.

    Raises:
        EvForgeError: there is no such job.
    """
    found = _details(client, job_id)
    return f"{_line(found)}\n{' '.join((found.message or '').split())}"


def stop(client: "JobSubmissionClient", job_id: str) -> str:
    """End a job as Ctrl-C would, and wait until it has.

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
    """A line for each job that was submitted, the newest last."""
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


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()
