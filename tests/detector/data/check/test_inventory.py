import h5py
import numpy as np
import pytest

from detector.data.check.inventory import find_data, read_tensor_header


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "float32"])
def test_every_type_that_is_built_is_read(tmp_path, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((2, 1, 3, 4), dtype)
    header = read_tensor_header(tmp_path / "a.h5")
    assert (header.shape, header.dtype.name) == ((2, 1, 3, 4), dtype)


@pytest.mark.parametrize(
    ("place", "is_tensor"), [("data", True), ("CD/events", False), ("events/t", False), ("t", False)]
)
def test_hdf5_recordings_are_told_from_tensor_files(tmp_path, place, is_tensor):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[place] = np.zeros(3)
    (found,) = find_data(tmp_path / "a.h5")
    assert found.is_tensor == is_tensor
