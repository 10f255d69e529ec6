import pytest

from detector.config import Config

TINY = {
    "data.num_tbins": 5,
    "data.batch_size": 2,
    "data.num_workers": 0,
    "data.min_box_diag": 0,
    "data.min_box_side": 0,
    "data.skip_us": 0,
    "model.feature_base": 2,
    "model.feature_channels_out": 4,
    "model.num_levels": 2,
    "anchors.base_size": 16,
    "train.max_epochs": 2,
    "train.precision": "32-true",
}


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """Seconds of synthetic recordings, 64 x 48 pixels: 2 to train on, 1 each to validate and test on."""
    from detector.data.build import build_dataset
    from detector.synthetic import write_dataset

    folder = tmp_path_factory.mktemp("tiny")
    source = write_dataset(folder / "rec", {"train": 2, "val": 1, "test": 1}, 1.0, 48, 64, seed=0, progress=False)
    recordings = sorted(source.glob("*/*_td.dat"))
    return build_dataset(recordings, folder / "dataset", Config().data, progress=False)


@pytest.fixture
def tiny_config(tiny_dataset, tmp_path, tracking_uri):
    """A detector that trains in a second; runs and tracking lie in the test's folder."""
    return Config().with_overrides(
        {
            **TINY,
            "data.dataset_path": str(tiny_dataset),
            "train.storage": str(tmp_path / "runs"),
            "track.tracking_uri": tracking_uri,
        }
    )


@pytest.fixture(scope="session")
def ray_head():
    """One Ray head for all tests that need one."""
    from evlab.runtime import ray_session

    with ray_session(dashboard=True) as resources:
        yield resources
