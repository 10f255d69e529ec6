import numpy as np
import pytest
import torch

from detector.data.augment import ZOOM_RANGE, Augmentation, Rect, draw_augmentation

WHOLE = Rect(0, 0, 4, 4)


def frames_of(rows: list[list[int]], dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.tensor(rows, dtype=dtype)[None, None]


COUNTS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]


def test_nothing_to_do_returns_the_frames_themselves():
    frames = frames_of(COUNTS)
    assert Augmentation(4, 4, WHOLE, WHOLE, flip=False).frames(frames) is frames


def test_flip_mirrors_columns_and_boxes():
    flip = Augmentation(4, 4, WHOLE, WHOLE, flip=True)
    assert flip.frames(frames_of(COUNTS))[0, 0, 0].tolist() == [4, 3, 2, 1]
    boxes = np.array([[0, 1, 1, 3, 2]], np.float32)
    assert flip.boxes(boxes).tolist() == [[3, 1, 4, 3, 2]]
    assert boxes.tolist() == [[0, 1, 1, 3, 2]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_zoom_in_enlarges_a_part(dtype: torch.dtype):
    zoom = Augmentation(4, 4, Rect(2, 1, 2, 2), WHOLE, flip=False)
    shown = zoom.frames(frames_of(COUNTS, dtype))
    assert shown.dtype == dtype
    assert shown[0, 0].tolist() == [[7, 7, 8, 8], [7, 7, 8, 8], [11, 11, 12, 12], [11, 11, 12, 12]]
    pixel = np.array([[3, 2, 4, 3, 1]], np.float32)  # where the 12 is
    assert zoom.boxes(pixel).tolist() == [[2, 2, 4, 4, 1]]


def test_zoom_out_shrinks_into_zeros():
    zoom = Augmentation(4, 4, WHOLE, Rect(1, 2, 2, 2), flip=True)
    frames = frames_of([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    assert zoom.frames(frames)[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 2, 1, 0], [0, 4, 3, 0]]
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
