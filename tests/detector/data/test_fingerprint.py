from pathlib import Path

import h5py
import numpy as np
import pytest

from detector.data.fingerprint import data_fingerprint


def _split(folder: Path, label: int = 0, **attributes) -> Path:
    folder.mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        file["data"] = np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2)
        file["data"].attrs.update(attributes)
    np.save(folder / "a_bbox.npy", np.array([label]))
    return folder


def test_data_fingerprint_follows_labels_source_and_preprocessing(tmp_path):
    same = {data_fingerprint(_split(tmp_path / name, sha256="x", delta_t=50_000)) for name in ("a", "b")}
    others = {
        data_fingerprint(_split(tmp_path / "labels", label=1, sha256="x", delta_t=50_000)),
        data_fingerprint(_split(tmp_path / "source", sha256="y", delta_t=50_000)),
        data_fingerprint(_split(tmp_path / "frames", sha256="x", delta_t=10_000)),
    }
    assert len(same) == 1 and len(others) == 3 and not same & others


def test_data_fingerprint_reads_files_that_do_not_name_their_source(tmp_path):
    first, second = _split(tmp_path / "a"), _split(tmp_path / "b")
    assert data_fingerprint(first) == data_fingerprint(second)
    with h5py.File(second / "a.h5", "a") as file:
        file["data"][1, 1, 1, 1] = 99
    assert data_fingerprint(first) != data_fingerprint(second)


def test_data_fingerprint_of_no_dataset_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tensor file"):
        data_fingerprint(tmp_path)
