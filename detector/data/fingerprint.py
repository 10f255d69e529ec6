"""Fingerprint of a split of a dataset. Results with equal fingerprints were computed on equal data."""

import hashlib
import json
from pathlib import Path

from detector.utils.hdf5_file import open_hdf5

__all__ = ["data_fingerprint"]


def data_fingerprint(split: Path) -> str:
    """Compute a hash of the tensor files and label files of a split, 16 hexadecimal digits.

    The hash of a tensor file includes the name, shape, data type and attributes of the file. If an attribute is the
    SHA-256 of the recording, the attributes identify the frames. Otherwise all frames are read and included.

    Args:
        split: folder with the files `X.h5` and `X_bbox.npy`.

    Raises:
        FileNotFoundError: the folder contains no tensor file.
    """
    tensors = sorted(Path(split).glob("*.h5"))
    if not tensors:
        raise FileNotFoundError(f"{split}: no tensor file (X.h5) in this folder; `evforge build` makes them")
    digest = hashlib.sha256()
    for path in tensors:
        with open_hdf5(path) as file:
            data = file["data"]
            made = {key: str(value) for key, value in data.attrs.items()}
            digest.update(json.dumps([path.name, data.shape, str(data.dtype), made], sort_keys=True).encode())
            if "sha256" not in made:
                for frame in data:
                    digest.update(frame.tobytes())
        labels = path.with_name(f"{path.stem}_bbox.npy")
        digest.update(labels.read_bytes() if labels.is_file() else b"no labels")
    return digest.hexdigest()[:16]
