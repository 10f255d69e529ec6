import math

import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data import augment
from detector.data.augment import KEEP_RANGE, ZOOM_RANGE, Augmentation, Rect, draw_augmentation
from detector.preprocess.representation import representation_of

WHOLE = Rect(0, 0, 4, 4)
HISTO = representation_of(DataConfig(preprocess="histo"))


def shown(augmentation: Augmentation, frame: np.ndarray, number: int = 0, backwards: bool = False) -> np.ndarray:
    out = np.full_like(frame, 99)
    augmentation.frame(frame.copy(), out, number, HISTO, backwards)
    return out


def frame_of(rows: list[list[int]], dtype: str = "uint8") -> np.ndarray:
    return np.array([rows], dtype)


COUNTS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]


def test_nothing_to_do_shows_the_frame_itself():
    frame = frame_of(COUNTS)
    assert np.array_equal(shown(Augmentation(4, 4, WHOLE, WHOLE, flip=False), frame), frame)


def test_flip_mirrors_columns_and_boxes():
    flip = Augmentation(4, 4, WHOLE, WHOLE, flip=True)
    assert shown(flip, frame_of(COUNTS))[0, 0].tolist() == [4, 3, 2, 1]
    boxes = np.array([[0, 1, 1, 3, 2]], np.float32)
    assert flip.boxes(boxes).tolist() == [[3, 1, 4, 3, 2]]
    assert boxes.tolist() == [[0, 1, 1, 3, 2]]


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_zoom_in_enlarges_a_part(dtype: str):
    zoom = Augmentation(4, 4, Rect(2, 1, 2, 2), WHOLE, flip=False)
    frame = shown(zoom, frame_of(COUNTS, dtype))
    assert frame.dtype == dtype
    assert frame[0].tolist() == [[7, 7, 8, 8], [7, 7, 8, 8], [11, 11, 12, 12], [11, 11, 12, 12]]
    pixel = np.array([[3, 2, 4, 3, 1]], np.float32)  # where the 12 is
    assert zoom.boxes(pixel).tolist() == [[2, 2, 4, 4, 1]]


def test_zoom_out_shrinks_into_zeros():
    zoom = Augmentation(4, 4, WHOLE, Rect(1, 2, 2, 2), flip=True)
    frame = frame_of([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    assert shown(zoom, frame)[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 2, 1, 0], [0, 4, 3, 0]]
    left = Augmentation(4, 4, WHOLE, Rect(0, 2, 2, 2), flip=True)
    assert shown(left, frame)[0, 3].tolist() == [0, 0, 4, 3]
    right_top = np.array([[2, 0, 4, 2, 1]], np.float32)  # where the 2s are
    assert zoom.boxes(right_top).tolist() == [[1, 2, 2, 3, 1]]


def test_boxes_are_cropped_and_dropped_when_less_than_a_quarter_is_left():
    zoom = Augmentation(100, 100, Rect(50, 0, 50, 50), Rect(0, 0, 100, 100), flip=False)
    boxes = np.array(
        [
            [40, 10, 60, 20, 1],  # half of it is inside
            [20, 10, 60, 20, 2],  # a quarter
            [19, 10, 60, 20, 3],  # 10 of 41 columns
            [0, 0, 40, 40, 4],  # nothing
        ],
        np.float32,
    )
    assert zoom.boxes(boxes).tolist() == [[0, 20, 20, 40, 1], [0, 20, 20, 40, 2]]
    assert zoom.boxes(boxes[:0]).shape == (0, 5)


def test_draws_repeat_with_the_seed_and_stay_in_range():
    drawn = [draw_augmentation(np.random.default_rng([7, index]), 60, 100) for index in range(200)]
    assert drawn == [draw_augmentation(np.random.default_rng([7, index]), 60, 100) for index in range(200)]
    flips = sum(augmentation.flip for augmentation in drawn)
    zoomed = [augmentation for augmentation in drawn if augmentation.source != augmentation.target]
    scales = [augmentation.target.w / augmentation.source.w for augmentation in zoomed]
    kept = [augmentation.keep for augmentation in drawn if augmentation.keep < 1]
    assert len({augmentation.key for augmentation in drawn}) == 200
    assert 70 < len(kept) < 130
    assert KEEP_RANGE[0] < min(kept) < 0.72
    assert 0.98 < max(kept) < KEEP_RANGE[1]
    assert 70 < flips < 130
    assert 70 < len(zoomed) < 130
    assert ZOOM_RANGE[0] - 0.02 < min(scales) < 0.9
    assert 1.4 < max(scales) < ZOOM_RANGE[1] + 0.02
    for augmentation in drawn:
        for rect in (augmentation.source, augmentation.target):
            assert rect.x >= 0
            assert rect.y >= 0
            assert rect.x + rect.w <= 100
            assert rect.y + rect.h <= 60


@pytest.mark.parametrize("flip", [False, True])
def test_backwards_channels_change_places(flip: bool):
    frame = np.concatenate([frame_of(COUNTS), frame_of(COUNTS) + np.uint8(50)])
    plain = Augmentation(4, 4, WHOLE, WHOLE, flip=flip)
    turned = shown(plain, frame, backwards=True)
    assert np.array_equal(turned, shown(plain, frame)[::-1])


def dropping(keep: float, key: int = 0) -> Augmentation:
    return Augmentation(100, 100, Rect(0, 0, 100, 100), Rect(0, 0, 100, 100), False, keep, key)


@pytest.mark.parametrize("count", [1, 5, 255])
def test_each_event_stays_by_its_own_draw(count: int):
    events = np.full((2, 100, 100), count, np.uint8)
    kept = shown(dropping(0.75), events)
    assert kept.max() <= count
    # Mean and variance of a binomial distribution, within 5 standard errors.
    error = 5 * math.sqrt(count * 0.75 * 0.25 / kept.size)
    assert abs(kept.mean() - 0.75 * count) < error
    assert kept.var() == pytest.approx(count * 0.75 * 0.25, rel=0.1)


def test_draws_of_a_dropout_follow_from_its_key_and_the_frame():
    events = np.full((2, 100, 100), 3, np.uint8)
    first = shown(dropping(0.8, 7), events, 4)
    assert np.array_equal(shown(dropping(0.8, 7), events, 4), first)
    others = (shown(dropping(0.8, 7), events, 5), shown(dropping(0.8, 8), events, 4))
    for other in others:
        both = ((first < 3) & (other < 3)).mean()
        assert both == pytest.approx((1 - 0.8**3) ** 2, abs=0.02)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_values_that_are_no_counts_go_as_a_whole(dtype: str):
    values = np.full((1, 100, 100), 2, dtype)
    values[0, :50] = 0
    out = np.empty_like(values)
    dropping(0.75).frame(values.copy(), out, 0, representation_of(DataConfig(preprocess="event_cube")))
    assert set(np.unique(out).tolist()) == {0, 2}
    assert (out[0, 50:] == 2).mean() == pytest.approx(0.75, abs=0.03)


def test_random_bits_are_those_of_splitmix64():
    """Reference values of the public definition for the seed 1234567."""
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    states = [np.uint64((1234567 + number * 0x9E3779B97F4A7C15) % 2**64) for number in range(1, 6)]
    assert [int(augment._mixed(state)) for state in states] == wanted
    plain = getattr(augment._mixed, "py_func", augment._mixed)
    with np.errstate(over="ignore"):
        assert [int(plain(state)) for state in states] == wanted
    numbered = [dropping(0.8, 1234567)._state(number) for number in range(1, 6)]
    assert numbered == states


def test_the_bits_decide_how_many_events_are_kept():
    # The upper 53 of the bits of the state 0x9E3779B97F4A7C15, as a share of 1: 16294208416658607535 / 2**64 = 0.883.
    state = np.uint64(0x9E3779B97F4A7C15)
    assert int(augment._mixed(state)) == 16294208416658607535
    # Runs have the length floor(log(0.8833) / log(keep)).
    assert [augment._draw_run(state, math.log(keep)) for keep in (0.5, 0.9, 0.99)] == [0, 1, 12]


def test_plain_python_drops_and_picks_the_same_values(monkeypatch):
    rng = np.random.default_rng(0)
    values = (rng.integers(1, 6, 300) * (rng.random(300) < 0.2)).astype(np.uint8)
    drops = [values.copy() for _ in range(2)]
    augment._drop(drops[0], math.log(0.8), np.uint64(3), True)
    for name in ("_drop", "_draw_run", "_mixed"):
        loop = getattr(augment, name)
        monkeypatch.setattr(augment, name, getattr(loop, "py_func", loop))
    with np.errstate(over="ignore"):
        augment._drop(drops[1], math.log(0.8), np.uint64(3), True)
    assert np.array_equal(*drops)
    assert 0 < np.count_nonzero(drops[0] < values) < np.count_nonzero(values)
    frame, picks = values[:120].reshape(2, 6, 10), [np.zeros((2, 8, 12), np.uint8) for _ in range(2)]
    rows, columns = np.array([5, 0], np.uint32), np.array([9, 2, 2], np.uint32)
    augment._pick(frame, picks[0], rows, columns, 1, 4, True)
    getattr(augment._pick, "py_func", augment._pick)(frame, picks[1], rows, columns, 1, 4, True)
    assert np.array_equal(*picks)
    assert np.array_equal(picks[0][0, 1:3, 4:7], frame[1][[[5], [0]], [9, 2, 2]])
