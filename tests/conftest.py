"""Fixtures that several test files share."""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest

# All runs use the same examples; `HYPOTHESIS_PROFILE=default` draws new ones.
_slow = [hypothesis.HealthCheck.too_slow]  # other work may hold the cores
hypothesis.settings.register_profile(
    "suite", derandomize=True, deadline=None, max_examples=30, suppress_health_check=_slow
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

for _name, _value in {
    "OMP_NUM_THREADS": 1,  # before torch is imported: threads slow each other down
    "RAY_worker_niceness": 0,  # with Ray's 15 the workers get 3 % of a busy core
    # Ray gives up processes that do not start within 30 to 60 s; on a busy machine they need longer.
    "RAY_agent_register_timeout_ms": 500_000,
    "RAY_worker_register_timeout_seconds": 500,
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": 500,
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": 500,
}.items():
    os.environ.setdefault(_name, str(_value))


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to create its tables, so this is done once per session."""
    from evforge.tracking.tracker import Tracker

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    Tracker(f"sqlite:///{path}", "unused")
    return path


@pytest.fixture
def tracking_uri(_empty_database: Path, tmp_path: Path) -> str:
    """URI of an MLflow database for one test."""
    return f"sqlite:///{shutil.copy(_empty_database, tmp_path / 'mlflow.db')}"


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """An exported detector with random weights."""
    from registered_model import export_cars

    return export_cars(tmp_path_factory.mktemp("exported"))
