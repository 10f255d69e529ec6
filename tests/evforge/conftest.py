import resource
import sys

import pytest
from toy_dataset import TINY, write_toy_dataset

from detector.config import Config
from evforge.tracking.tracker import Tracker


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    return write_toy_dataset(tmp_path_factory.mktemp("tiny") / "dataset", {"train": 4, "val": 1, "test": 1})


@pytest.fixture
def tiny_config(tiny_dataset, tmp_path, tracking_uri):
    """A detector that learns something in a second; runs and tracking lie in the test's folder."""
    return Config().with_overrides(
        {
            **TINY,
            "data.dataset_path": str(tiny_dataset),
            "train.storage": str(tmp_path / "runs"),
            "track.tracking_uri": tracking_uri,
        }
    )


@pytest.fixture
def space_file(request, tmp_path):
    """The module's `SPACE` as a file."""
    path = tmp_path / "space.yaml"
    path.write_text(request.module.SPACE)
    return path


@pytest.fixture
def tracker(tracking_uri):
    """A store of this test alone."""
    return Tracker(tracking_uri, "exp")


@pytest.fixture(scope="session")
def ray_head():
    """One Ray head for all tests that need one."""
    from evforge.cluster.session import ray_session

    with ray_session(dashboard=True) as resources:
        yield resources


@pytest.fixture
def checks_pass(monkeypatch):
    """Leaves the checks of exported files out where a test is about something else."""
    monkeypatch.setattr("detector.export.check._run_cases", lambda model: None)


@pytest.fixture
def small_disk(monkeypatch):
    """Files of this process can have 1 KB. Python writes no bytecode, because it would not notice that it is cut."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
