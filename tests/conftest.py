"""Fixtures that several test files share."""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest

# The same examples in every run; `HYPOTHESIS_PROFILE=default` draws new ones.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, max_examples=30)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on a busy machine threads wait for each other


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to create its tables: once a session is enough."""
    from evforge.tracking.tracker import Tracker

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    Tracker(f"sqlite:///{path}", "unused")
    return path


@pytest.fixture
def tracking_uri(_empty_database: Path, tmp_path: Path) -> str:
    """Address of an MLflow database of this test alone."""
    return f"sqlite:///{shutil.copy(_empty_database, tmp_path / 'mlflow.db')}"


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """A detector that has learnt nothing, as exported."""
    from registered_model import export_untrained

    return export_untrained(tmp_path_factory.mktemp("exported"))
