import json

import numpy as np
import pytest

from detector.events import BBOX_dtype, EventCD, write_dat
from detector.labels import save_labels

SIZES = [(20, 10), (40, 30)]


def _write_recording(path, start=1_000_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    events = np.zeros(40, EventCD)
    events["t"] = start + 25_000 * np.arange(40)
    events["x"] = events["y"] = np.arange(40)
    events["p"] = np.arange(40) % 4 == 0
    write_dat(path, events, 60, 80)
    rows = [(start + t, 5, 5, *size, c, c, 1) for t in (250_000, 500_000, 750_000) for c, size in enumerate(SIZES)]
    save_labels(path.with_name(path.name.replace("_td.dat", "_bbox.npy")), np.array(rows, BBOX_dtype))
    return path


@pytest.fixture
def write_recording():
    """Writes 40 events in a second, every fourth ON; boxes of 20 x 10 (car) and 40 x 30 (walker) at 4 Hz."""
    return _write_recording


@pytest.fixture
def dataset(tmp_path):
    """Two such recordings for training and one for the test."""
    for split, count in (("train", 2), ("test", 1)):
        for index in range(count):
            _write_recording(tmp_path / "street" / split / f"{split}{index}_td.dat")
    (tmp_path / "street" / "label_map_dictionary.json").write_text(json.dumps({"0": "car", "1": "walker"}))
    return tmp_path / "street"
