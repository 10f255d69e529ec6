import numpy as np
import pytest

from detector.data.check.event_faults.sketch import (
    Sketch,
    SketchBuilder,
    box_hashes,
    event_hashes,
    frame_hashes,
    similar_pairs,
)
from detector.events import BBOX_dtype


def sketch_of(hashes, parts=3):
    builder = SketchBuilder()
    for part in np.array_split(np.asarray(hashes, np.uint64), parts):
        builder.add(part)
    return builder.build()


def random_hashes(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**63, count).astype(np.uint64)


def test_small_sets_are_compared_exactly():
    one, other = sketch_of([5, 3, 3, 9, 1]), sketch_of([9, 5, 7])
    assert one.hashes.tolist() == [1, 3, 5, 9]
    assert one.complete
    assert one.common(other) == (2 / 3, 3)
    assert one.common(sketch_of([])) == (0.0, 0)


def test_large_sets_are_estimated():
    hashes = random_hashes(60_000)
    one, other = sketch_of(hashes[:40_000]), sketch_of(hashes[30_000:])
    assert one.hashes.size == 2048
    assert not one.complete
    share, number = one.common(other)
    assert share == pytest.approx(1 / 3, abs=0.06)
    assert number > 1000
    assert sketch_of(hashes[:40_000]).common(sketch_of(random_hashes(40_000, 1)))[0] == 0
    # A part of a recording is contained in it.
    assert one.common(sketch_of(hashes[:10_000]))[0] == 1


def test_pairs_with_common_hashes():
    hashes = random_hashes(300)
    sketches = [sketch_of(hashes[:100]), None, sketch_of(hashes[200:]), sketch_of(hashes[50:150])]
    assert similar_pairs(sketches) == [(0, 3, 0.5, 100)]
    assert similar_pairs([]) == []
    assert similar_pairs([sketch_of(hashes[:40]), sketch_of(hashes[30:50])]) == [(0, 1, 0.5, 20)]
    assert similar_pairs([sketch_of(hashes[:39]), sketch_of(hashes[30:50])]) == []  # 9 common hashes


def test_events_are_hashed_without_their_absolute_time():
    keys = np.sort(np.random.default_rng(0).integers(0, 2**50, 100))
    assert event_hashes(keys).size == 100 - 6
    assert event_hashes(keys + (777 << 31)).tolist() == event_hashes(keys).tolist()
    assert event_hashes(keys[20:60]).tolist() == event_hashes(keys)[20 : 60 - 6].tolist()
    assert event_hashes(keys[:6]).size == 0
    changed = keys.copy()
    changed[50] += 1
    assert np.count_nonzero(event_hashes(changed) != event_hashes(keys)) == 7


def test_frames():
    frame = np.zeros((2, 3, 4), np.uint8)
    assert frame_hashes(frame).size == 0
    frame[1, 2, 0] = 3
    assert frame_hashes(frame) == frame_hashes(frame.astype(np.float16))
    moved = np.zeros_like(frame)
    moved[1, 0, 2] = 3
    assert frame_hashes(moved) != frame_hashes(frame)


def test_boxes_are_hashed_without_their_times():
    labels = np.zeros(3, BBOX_dtype)
    labels["x"], labels["y"] = [4, 4, 7], [7, 7, 4]
    labels["t"], labels["track_id"] = [1, 2, 3], [1, 2, 3]
    one, other, swapped = box_hashes(labels).tolist()
    assert one == other
    assert one != swapped
    assert isinstance(sketch_of([one]), Sketch)
