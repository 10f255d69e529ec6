import pytest
from toy_dataset import write_toy_dataset

from detector.config import Config
from detector.data_factory import psee_data

SETTINGS = {"data.num_tbins": 5, "data.batch_size": 2, "data.num_workers": 0, "data.min_box_diag": 0}


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    folder = write_toy_dataset(tmp_path_factory.mktemp("streams") / "dataset", {"test": 3}, num_frames=12)
    config = Config().with_overrides({**SETTINGS, "data.min_box_side": 0, "data.dataset_path": str(folder)})
    return psee_data(config.to_hparams(), "test")
