import pytest
from toy_dataset import TOY_SETTINGS, write_toy_dataset

from detector.config import Config
from evforge.tracking import Tracker

TINY = {
    **TOY_SETTINGS,
    "data.augment": False,
    "model.feature_base": 2,
    "model.feature_channels_out": 8,
    "train.max_epochs": 2,
}


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


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """A detector that has learnt nothing, as exported."""
    from registered_model import export_untrained

    return export_untrained(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def tracker(tracking_uri):
    """A store of this test alone."""
    return Tracker(tracking_uri, "exp")


@pytest.fixture(scope="session")
def ray_head():
    """One Ray head for all tests that need one."""
    from evforge.runtime import ray_session

    with ray_session(dashboard=True) as resources:
        yield resources
