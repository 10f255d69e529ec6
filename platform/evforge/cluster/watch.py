"""Watch over the processes of Ray that a driver needs: the head of the cluster, and the raylet of its own node.

Without them Ray waits forever, or ends the driver after 60 s without any clean-up.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from evforge import EvForgeError

__all__ = ["RayLostError", "answers", "ray_watched"]

CHECK_S = 5.0
"""Pause in seconds between two checks, and longest time to wait for an answer."""

LOST_S = 25.0
"""A process that has not answered for this time is lost."""

STUCK_S = 12.0
"""If the main thread is not interrupted within this time, because it waits for a lost process inside of Ray, the driver
is ended. Its guard then ends its MLflow runs."""

CLEANUP_S = 240.0
"""An interrupted block has this time to clean up. It may have to wait for an MLflow server, but not for this long."""

ENDED = 2
"""Exit code of a driver that is ended."""


class RayLostError(EvForgeError):
    """The head of the connected cluster or the raylet of this node no longer answers."""


def answers(target: str, timeout_s: float) -> bool:
    """Return whether a gRPC server, such as the head of a cluster, accepts connections.

    Args:
        target: address HOST:PORT.
        timeout_s: longest time in seconds to wait for the connection.
    """
    import grpc

    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError:
            return False
    return True


@contextmanager
def ray_watched(name: str) -> Iterator[None]:
    """Context manager that interrupts its block if the connected Ray no longer answers.

    The block is interrupted by a KeyboardInterrupt in the main thread, as by Ctrl-C. After the block, a RayLostError
    replaces the KeyboardInterrupt. If the main thread cannot be interrupted, the process is ended.

    Args:
        name: the connected Ray as the error message names it, for example "the cluster at host:6379".

    Raises:
        RayLostError: the head of the cluster or the raylet of this node no longer answers.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main or "RAY_USE_TLS" in os.environ:
        yield
        return
    watched = _needed(name)
    lost, interrupted, done = list[str](), threading.Event(), threading.Event()

    def watch() -> None:
        answered, missed = dict.fromkeys(watched, time.monotonic()), dict.fromkeys(watched, 0)
        while not lost and not done.wait(CHECK_S):
            for target, message in watched.items():
                if answers(target, CHECK_S):
                    answered[target], missed[target] = time.monotonic(), 0
                    continue
                missed[target] += 1  # one failure may only mean that this process was suspended during the check
                if missed[target] > 1 and time.monotonic() - answered[target] > LOST_S:
                    lost.append(message)
        if lost and not done.is_set():
            signal.pthread_kill(main.ident or 0, signal.SIGUSR2)
            if not done.wait(STUCK_S) and not (interrupted.is_set() and done.wait(CLEANUP_S)):
                print(f"evforge: error: {lost[0]}", file=sys.stderr, flush=True)
                os._exit(ENDED)

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR2, interrupt)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        done.set()  # from here on, the watch must not interrupt
        if not lost and isinstance(error, Exception):
            lost += [message for target, message in watched.items() if not answers(target, CHECK_S)]
        if lost:
            raise RayLostError(lost[0]) from error
        raise
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGUSR2, before)


def _needed(name: str) -> dict[str, str]:
    """Return the addresses of the processes that this process needs, each with the message for its loss.

    Args:
        name: the connected Ray, as in `ray_watched`.
    """
    import ray

    context = ray.get_runtime_context()
    needed = {context.gcs_address: f"the head of {name} no longer answers"}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            raylet = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
            needed[raylet] = f"Ray on this node ({node['NodeManagerAddress']}) no longer answers"
    return needed
