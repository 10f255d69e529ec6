"""The head, which is the node that manages a Ray cluster: check that it answers, and interrupt the program if not."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from evforge import EvForgeError

__all__ = ["HeadLostError", "answers", "head_watched"]

CHECK_S = 5.0
"""Pause in seconds between two checks."""

LOST_S = 20.0
"""A head that has not answered for this time is lost. Ray itself ends the process after 60 s, without any clean-up."""

STUCK_S = 15.0
"""If the main thread has not left the block after this time, for example because it waits for the head inside of Ray,
the message is printed at once. Ray then ends the process, and the guard of the driver ends the MLflow runs."""


class HeadLostError(EvForgeError):
    """The head of the connected cluster no longer answers."""


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
def head_watched(address: str) -> Iterator[None]:
    """Context manager that interrupts its block if the head of the connected cluster no longer answers.

    The block is interrupted by a KeyboardInterrupt in the main thread, as by Ctrl-C. After the block, a HeadLostError
    replaces the KeyboardInterrupt.

    Args:
        address: address of the cluster as the user gave it, for the error message.

    Raises:
        HeadLostError: the head no longer answers.
    """
    import ray

    main = threading.main_thread()
    if threading.current_thread() is not main or "RAY_USE_TLS" in os.environ:
        yield
        return
    target = ray.get_runtime_context().gcs_address
    lost, done = threading.Event(), threading.Event()
    message = f"the head of the cluster at {address} no longer answers"

    def watch() -> None:
        answered = time.monotonic()
        while not done.wait(CHECK_S):
            if answers(target, CHECK_S):
                answered = time.monotonic()
            elif time.monotonic() - answered > LOST_S:
                lost.set()
                signal.pthread_kill(main.ident or 0, signal.SIGUSR2)
                if not done.wait(STUCK_S):
                    print(f"evforge: {message}", file=sys.stderr, flush=True)
                return

    before = signal.signal(signal.SIGUSR2, _interrupt)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        if lost.is_set() or (isinstance(error, Exception) and not answers(target, CHECK_S)):
            raise HeadLostError(message) from error
        raise
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGUSR2, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
