import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from detector.data import sequence_file
from detector.data.sequence_file import FileCache, OpenFile, SequenceFile
from detector.data.targets import TargetLoader
from detector.events.types import BBOX_dtype

TARGETS = TargetLoader(np.array([1]), 3, min_box_diag=0, interpolation=False)


@pytest.fixture
def three(tmp_path: Path) -> list[SequenceFile]:
    """Files of 6 frames of 10 us from t = 100 on; the box of time t is t - 100 wide."""
    found = []
    for index in range(3):
        path = tmp_path / f"rec{index}.h5"
        with h5py.File(path, "w") as file:
            file["data"] = np.full((6, 1, 4, 80), index, np.uint8)
        labels = path.with_name(f"rec{index}_bbox.npy")
        np.save(labels, np.array([(t, 0, 0, t - 100, 2, 0, 0, 1) for t in (105, 110, 118, 140)], BBOX_dtype))
        found.append(SequenceFile(path, labels, 6, 1, 4, 80, 1, 100, 10, 1))
    return found


def widths(source: OpenFile, start: int, backwards: bool) -> list[list[float]]:
    boxes, counts, labeled = source.target_table(TARGETS, start, None, backwards)
    assert [count > 0 for count in counts] == labeled.tolist()
    return [part[:, 2].tolist() for part in np.split(boxes, np.cumsum(counts)[:-1])]


def test_labels_belong_to_the_frame_at_the_end_of_which_they_were_seen(three):
    source = OpenFile(three[0])
    assert widths(source, 0, False) == [[10], [18], []]
    assert widths(source, 3, False) == [[40], [], []]
    # Backwards, frames 2, 1, 0 end at 120, 110, 100: the label of 118 is passed in frame 1, that of 105 in frame 0.
    assert widths(source, 0, True) == [[], [10], [5]]
    assert widths(source, 3, True) == [[], [40], []]


def test_targets_are_those_of_the_table(three):
    boxes, labeled = OpenFile(three[0]).load_targets(TARGETS, 0)
    assert [part.tolist() for part in boxes] == [[[0, 0, 10, 2, 1]], [[0, 0, 18, 2, 1]], []]
    assert labeled.tolist() == [True, True, False]


def test_labels_are_mirrored_in_a_copy(three):
    source = OpenFile(three[0])
    assert source.mirrored_labels["t"].tolist() == [-140, -118, -110, -105]
    assert source.mirrored_labels["w"].tolist() == [40, 18, 10, 5]
    assert source.labels["t"].tolist() == [105, 110, 118, 140]


def test_as_many_files_are_open_as_may_be_and_they_do_not_travel(three, monkeypatch):
    opened, closed = [], []

    class Reader:
        def __init__(self, path: Path) -> None:
            opened.append(path.stem)
            self.close = lambda: closed.append(path.stem)

    monkeypatch.setattr(sequence_file, "open_tensors", Reader)
    cache = FileCache(2)
    for index in (0, 1, 0, 2, 0):
        assert cache[three[index]].reader is not None
    assert (opened, closed) == (["rec0", "rec1", "rec2"], ["rec1"])
    assert pickle.loads(pickle.dumps(cache))[three[0]].reader is not None
    assert opened[3:] == ["rec0"]
    monkeypatch.setattr(sequence_file.os, "getpid", lambda: -1)  # as a forked process sees it
    assert cache[three[0]].reader is not None
    assert opened[4:] == ["rec0"]
