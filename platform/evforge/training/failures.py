"""Failures of trainings: temporary ones, after which a retry may succeed, and others, which would occur again."""

from typing import Any

from evforge import EvForgeError, last_line, one_line

__all__ = ["NodeError", "TrainingFailed", "failure_printer", "is_temporary"]

TEMPORARY_TEXTS = (
    *("out of memory", "can't allocate memory", "shared memory", "CUDA error", "cuDNN error", "NCCL error"),
    *("DataLoader worker", "Pin memory thread", "Connection closed by peer"),
)
"""Parts of the messages of RuntimeErrors that torch raises if memory, a GPU or a process of the data loader is lost."""


class TrainingFailed(EvForgeError):
    """Raised if the workers of a training failed more often than `train.max_failures` allows."""


class NodeError(EvForgeError):
    """Raised in the process of a trial if the node of this process is the likely cause of a failure.

    Args:
        message: the failure as one line.
        node_id: id of the node in Ray.
    """

    def __init__(self, message: str, node_id: str) -> None:
        super().__init__(message, node_id)
        self.node_id = node_id

    def __str__(self) -> str:
        return str(self.args[0])

    @classmethod
    def here(cls, error: Exception) -> "NodeError":
        """Return the NodeError for an error that occurred on this node."""
        import ray

        return cls(f"{type(error).__name__}: {one_line(error)}", ray.get_runtime_context().get_node_id())


def is_temporary(error: BaseException | None) -> bool:
    """Return whether an error may be temporary, so that a retry on this or another node may succeed.

    This is the case for errors of files, connections, memory, GPUs and processes, and for errors that were caused by
    one of these. Other errors are assumed to come from the settings or the data, and would occur again.
    """
    while error is not None:
        if isinstance(error, OSError | EOFError | MemoryError | TrainingFailed):
            return True
        if "device-side assert" in str(error):  # an index that is out of range, which would be again
            return False
        if isinstance(error, RuntimeError) and any(text in str(error) for text in TEMPORARY_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def failure_printer() -> Any:
    """Return a callback of Ray Train that prints one line whenever ranks fail. Retries would otherwise be silent."""
    from ray import train

    class FailurePrinter(train.UserCallback):
        def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
            first = str(worker_exceptions[min(worker_exceptions)])
            reason = last_line(first) if "Traceback" in first else first.strip().partition("\n")[0]
            print(f"ranks that failed: {', '.join(map(str, sorted(worker_exceptions)))} ({reason})", flush=True)

    return FailurePrinter()
