import numpy as np
import pytest

from detector.data.augment import Augmentation, Rect
from detector.data.targets import TargetLoader, scale_labels
from detector.events.types import BBOX_dtype

LOOKUP = np.array([1, -1, 2])  # ids 0 and 2 are wanted
SIZE = {"height": 100, "width": 200}


def label(t: int, x=10, y=20, w=30, h=40, class_id=0, track_id=0) -> tuple:
    return t, x, y, w, h, class_id, track_id, 1


def labels_of(*rows: tuple) -> np.ndarray:
    return np.array(list(rows), BBOX_dtype)


def loader(num_tbins: int = 3, **kwargs) -> TargetLoader:
    return TargetLoader(LOOKUP, num_tbins, **{"min_box_diag": 0, "interpolation": False, **kwargs})


def test_a_label_belongs_to_the_frame_that_ends_at_or_after_it():
    # frames (100, 110], (110, 120], (120, 130]
    labels = labels_of(*(label(t, x=t) for t in (100, 101, 110, 111, 130, 131)))
    boxes, labeled = loader()(labels, 0, **SIZE, first_t=100, delta_t=10)
    assert labeled.tolist() == [True, True, True]
    assert [b[:, 0].tolist() for b in boxes] == [[110], [111], [130]]
    boxes, labeled = loader()(labels[:1], 0, **SIZE, first_t=100, delta_t=10)
    assert labeled.tolist() == [False, False, False]
    assert [tuple(b.shape) for b in boxes] == [(0, 5)] * 3


def test_only_the_last_of_three_60_hz_labels_counts():
    times = [16_667, 33_333, 50_000, 66_667]
    labels = labels_of(*(label(t, x=i, track_id=k) for i, t in enumerate(times) for k in range(2)))
    boxes, labeled = loader(2)(labels, 0, **SIZE, delta_t=50_000)
    assert labeled.tolist() == [True, True]
    assert boxes[0].tolist() == [[2, 20, 32, 60, 1], [2, 20, 32, 60, 1]]
    assert boxes[1][:, 0].tolist() == [3, 3]


def test_a_timestamp_with_only_unwanted_boxes_is_a_labelled_frame_without_boxes():
    labels = labels_of(label(5), label(9, class_id=1), label(15, class_id=2), label(25, class_id=2**32 - 1))
    boxes, labeled = loader(4)(labels, 0, **SIZE, delta_t=10)
    assert labeled.tolist() == [True, True, True, False]
    assert [b[:, 4].tolist() for b in boxes] == [[], [2], [], []]


def test_frames_outside_of_the_file_are_never_labelled():
    labels = labels_of(*(label(t) for t in (-5, 5, 15, 25)))
    _, labeled = loader(5)(labels, -2, **SIZE, delta_t=10, num_frames=2)
    assert labeled.tolist() == [False, False, True, True, False]
    _, labeled = loader(2)(labels, 5, **SIZE, delta_t=10, num_frames=2)
    assert labeled.tolist() == [False, False]
    _, labeled = loader(2)(labels, -2, **SIZE, delta_t=10, num_frames=2)
    assert labeled.tolist() == [False, False]


def test_boxes_are_scaled_then_cropped_then_filtered():
    labels = labels_of(
        label(5, x=-10, y=30, w=30, h=40),  # 0..10 x 15..35 in network pixels
        label(5, x=380, y=0, w=100, h=400),  # 190..200 x 0..100
        label(5, x=500, y=0, w=50, h=50),  # outside
        label(5, x=0, y=0, w=20, h=18),  # 10 x 9
    )
    before = labels.copy()
    boxes, labeled = loader(1)(labels, 0, **SIZE, delta_t=10, scale=0.5)
    assert boxes[0].tolist() == [[0, 15, 10, 35, 1], [190, 0, 200, 100, 1], [0, 0, 10, 9, 1]]
    kept = loader(1, min_box_side=10)(labels, 0, **SIZE, delta_t=10, scale=0.5)[0][0]
    assert kept[:, 0].tolist() == [0, 190]
    kept = loader(1, min_box_diag=np.hypot(10, 20) + 0.01)(labels, 0, **SIZE, delta_t=10, scale=0.5)[0][0]
    assert kept[:, 0].tolist() == [190]
    none, labeled = loader(1, min_box_diag=500)(labels, 0, **SIZE, delta_t=10, scale=0.5)
    assert len(none[0]) == 0
    assert labeled.tolist() == [True]
    assert (labels == before).all()


def test_sizes_are_compared_after_the_zoom():
    twice = Augmentation(100, 200, Rect(0, 0, 100, 50), Rect(0, 0, 200, 100), flip=False)
    labels = labels_of(label(5, x=10, y=10, w=6, h=8), label(5, x=10, y=10, w=5, h=8))
    boxes, _ = loader(1, min_box_diag=20)(labels, 0, **SIZE, delta_t=10, augmentation=twice)
    assert boxes[0].tolist() == [[20, 20, 32, 36, 1]]


def test_interpolation_fills_the_frames_between_two_labels():
    labels = labels_of(
        label(10, x=0, track_id=1),
        label(10, x=50, track_id=2, class_id=2),
        label(50, x=80, h=80, track_id=2, class_id=2),
        label(50, x=40, track_id=1),
    )
    boxes, labeled = loader(6, interpolation=True)(labels, 0, **SIZE, delta_t=10)
    assert labeled.tolist() == [True] * 5 + [False]
    assert boxes[1].tolist() == [[10, 20, 40, 60, 1], [57.5, 20, 87.5, 70, 2]]
    assert boxes[4][:, 0].tolist() == [80, 40]
    assert loader(6)(labels, 0, **SIZE, delta_t=10)[1].tolist() == [True, False, False, False, True, False]


def test_interpolation_is_the_same_whatever_the_range_of_frames():
    labels = labels_of(label(10, x=0), label(50, x=40))
    boxes, labeled = loader(2, interpolation=True)(labels, 2, **SIZE, delta_t=10)
    assert labeled.tolist() == [True, True]
    assert [b[:, 0].tolist() for b in boxes] == [[20], [30]]


@pytest.mark.parametrize(
    "rows",
    [
        [label(10, track_id=1), label(50, track_id=1), label(50, track_id=2)],  # one came in between
        [label(10, track_id=1), label(50, track_id=1, class_id=2)],  # another class
        [label(10), label(10), label(50), label(50)],  # tracks cannot be told apart
        [label(10), label(1_500_011)],  # too far apart
    ],
)
def test_interpolation_leaves_out_what_is_uncertain(rows: list[tuple]):
    boxes, labeled = loader(3, interpolation=True)(labels_of(*rows), 0, **SIZE, delta_t=10)
    assert labeled.tolist() == [True, False, False]
    assert len(boxes[1]) == 0


def test_interpolation_ignores_unwanted_tracks():
    labels = labels_of(label(10, x=0, track_id=1), label(10, class_id=1, track_id=9), label(30, x=20, track_id=1))
    boxes, labeled = loader(2, interpolation=True)(labels, 0, **SIZE, delta_t=10)
    assert labeled.tolist() == [True, True]
    assert boxes[1][:, 0].tolist() == [10]


def test_no_labels_at_all():
    boxes, labeled = loader(2, interpolation=True)(labels_of(), 0, **SIZE)
    assert labeled.tolist() == [False, False]
    assert [tuple(b.shape) for b in boxes] == [(0, 5)] * 2


def test_scale_labels_keeps_ids_and_times():
    labels = labels_of(label(5, x=-10, y=30, w=30, h=40, class_id=2, track_id=7), label(6, x=400))
    scaled = scale_labels(labels, 0.5, 100, 200)
    assert scaled[0].tolist() == (5, 0, 15, 10, 20, 2, 7, 1)
    assert (scaled[1]["t"], scaled[1]["w"]) == (6, 0), "outside of the frame: no area"
    assert labels["x"].tolist() == [-10, 400]


def test_classes_that_the_lookup_does_not_know_are_dropped():
    labels = labels_of(*(label(5, class_id=c) for c in (0, 1, 2, 3, 2**32 - 1)))
    boxes, _ = loader()(labels, 0, delta_t=10, **SIZE)
    assert boxes[0][:, 4].tolist() == [1, 2]


@pytest.mark.parametrize("field", [{"x": np.nan}, {"y": np.inf}, {"w": -3}, {"h": np.nan}])
def test_a_broken_box_is_refused_with_its_frame_and_value(field):
    name, value = next(iter(field.items()))
    labels = labels_of(label(10), label(25, **field))
    with pytest.raises(
        ValueError, match=rf"labels: frame 2 \(t 25\) holds a box with .*{name} {value:g}.*allowed: fin"
    ):
        loader()(labels, 0, **SIZE, delta_t=10)
    unwanted = labels_of(label(25, class_id=1, **field))
    assert [len(boxes) for boxes in loader()(unwanted, 0, **SIZE, delta_t=10)[0]] == [0, 0, 0]


def test_a_box_without_extent_is_dropped():
    assert [len(boxes) for boxes in loader()(labels_of(label(10, w=0)), 0, **SIZE, delta_t=10)[0]] == [0, 0, 0]
