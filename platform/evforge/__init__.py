"""Experiments on event-camera detectors: training, search, tracking, registry, and the `evforge` command."""

import os

__all__ = ["RAY_ENVIRONMENT", "EvForgeError", "last_line", "one_line"]

# Ray and OpenMP read these variables when they are loaded. Workers on this machine inherit them. A job sends them on.
RAY_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "2000",  # torch's threads wait actively only briefly, as other programs may need the cores
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # otherwise Ray starts its workers by another `uv run`, which crashes
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of a configuration refer to the working folder, in workers too
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # otherwise every line that a worker prints appears twice
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the program, not only the search
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON or TensorBoard files: MLflow stores the values
    "RAY_AIR_NEW_OUTPUT": "0",  # Ray's new output prints framed text even with verbose=0
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails before it is validated does not end the search
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # a search loses at most this many seconds if its driver is killed
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # otherwise three lines per report
}
# Additional variables for Ray on this machine, used if RAY_ADDRESS is not set.
_LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # also on Linux: the node is 127.0.0.1, no port is open to the network
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # this machine is not preempted
    "RAY_worker_niceness": "0",  # with Ray's 15, trials get 3 % of a core that another program uses
}
# MLflow reads these variables when it is imported or used.
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default of 7 blocks a training; `RetryQueue` retries too
    "MLFLOW_UV_AUTO_DETECT": "false",  # otherwise the uv.lock of the working folder is copied into every model
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # hides messages about created tables and finished uploads
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_RAY = RAY_ENVIRONMENT if "RAY_ADDRESS" in os.environ else {**RAY_ENVIRONMENT, **_LOCAL_ENVIRONMENT}
for _key, _value in {**_RAY, **_MLFLOW_ENVIRONMENT}.items():  # values set by the user remain
    os.environ.setdefault(_key, _value)


class EvForgeError(Exception):
    """An error with a one-line explanation, which the command line prints without a traceback."""


def one_line(error: Exception) -> str:
    """Return the message of an error as one line."""
    return " ".join(str(error).split())


def last_line(text: str) -> str:
    """Return the last line of a text that is not blank; in a traceback this line names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
