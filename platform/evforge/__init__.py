"""Experiments on event-camera detectors: training, search, tracking, registry, and the `evforge` command."""

import os

__all__ = ["RAY_ENVIRONMENT", "EvForgeError", "last_line", "one_line"]

# Ray reads these when it is imported. Workers on this machine inherit them; to a cluster a job takes them along.
RAY_ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # or Ray wraps its workers in another `uv run`, which crashes
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of a configuration mean the working folder, in workers too
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # or every line that a worker prints comes twice
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the program, not only the search
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow holds what its CSV, JSON and TensorBoard files would repeat
    "RAY_AIR_NEW_OUTPUT": "0",  # the other output prints boxes even when told to be silent
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails before its first validation ends alone
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # what a search loses when its driver is killed
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # three lines a report
}
# For a head of our own, where no cluster is named.
_LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: the node is 127.0.0.1, nothing listens to the network
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody takes this machine away
}
for _key, _value in {**RAY_ENVIRONMENT, **({} if "RAY_ADDRESS" in os.environ else _LOCAL_ENVIRONMENT)}.items():
    os.environ.setdefault(_key, _value)


class EvForgeError(Exception):
    """A failure that one line explains; the command line prints it without a traceback."""


def one_line(error: Exception) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())


def last_line(text: str) -> str:
    """The last line that is not blank: of a traceback the one that says what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
