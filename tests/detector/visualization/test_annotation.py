import pytest
import torch

from detector.visualization.annotation import (
    DETECTION,
    FALSE_ALARM,
    FOUND_LABEL,
    MISSED_LABEL,
    Key,
    Mark,
    _place,
    _text_width,
    add_texts,
    draw_marks,
    shorten,
)

RED, WHITE = (255, 0, 0), (255, 255, 255)


def blank(height=80, width=120):
    return torch.full((3, height, width), 255, dtype=torch.uint8)


def is_red(image):
    return (image == torch.tensor(RED, dtype=torch.uint8)[:, None, None]).all(0)


def test_boxes_are_drawn_on_a_copy_and_cropped():
    image = blank()
    drawn = is_red(draw_marks(image, [Mark((-30, 6, 20, 500), RED, DETECTION)], 10))
    assert drawn[6, 0:20].all() and drawn[6:80, 20].all() and drawn[79, 0:20].all()
    assert not drawn[20:70, 5:15].any() and not drawn[:, 21:].any()
    assert (image == 255).all()
    assert torch.equal(draw_marks(image, [], 10), image)


def test_each_style_has_its_own_share_of_ink():
    """The styles differ in grey: by the width of lines, and by the share of each line that is drawn."""
    shares, widths = {}, {}
    for style in (DETECTION, FALSE_ALARM, FOUND_LABEL, MISSED_LABEL):
        drawn = is_red(draw_marks(blank(200, 200), [Mark((10, 10, 190, 190), RED, style)], 20))
        shares[style] = drawn[10, 10:190].float().mean().item()
        widths[style] = int(drawn[60:140, 10:100].any(0).sum())
    assert shares[DETECTION] == shares[FOUND_LABEL] == 1
    assert shares[FALSE_ALARM] == pytest.approx(12 / 19, abs=0.1)
    assert shares[MISSED_LABEL] == pytest.approx(0.4, abs=0.15)
    assert (widths[FOUND_LABEL], widths[DETECTION], widths[MISSED_LABEL]) == (1, 3, 4)


def test_texts_avoid_each_other_and_stay_inside():
    taken = []
    for _ in range(4):  # four boxes at the same place
        taken.append(_place((60, 30, 90, 50), 25, 8, (119, 79), taken))
    assert taken[0] == (60, 21, 85, 29), "above the box, at its left edge"
    for index, (x1, y1, x2, y2) in enumerate(taken):
        assert all(x2 < other[0] or other[2] < x1 or y2 < other[1] or other[3] < y1 for other in taken[:index])
    above = (60, 10, 100, 29)
    assert _place((60, 30, 90, 50), 25, 8, (119, 79), [], [above]) == (60, 51, 85, 59), "below, because of a box above"
    for box in ((-20, -20, 5, 5), (110, 70, 119, 79), (0, 0, 119, 79)):
        x1, y1, x2, y2 = _place(box, 25, 8, (119, 79), [])
        assert min(x1, y1) >= 0 and x2 <= 119 and y2 <= 79


@pytest.mark.parametrize(
    ("x", "y"),
    [
        *((60, 21), (65, 21), (60, 51), (65, 51), (91, 30), (34, 30), (91, 42), (34, 42)),
        *((60, 12), (60, 60), (60, 30)),  # two lines above, two lines below, inside
    ],
)
def test_places_of_the_text_of_a_box(x, y):
    """All other places are covered."""
    around = [(0, 0, x, 200), (x + 25, 0, 300, 200), (0, 0, 300, y), (0, y + 8, 300, 200)]
    assert _place((60, 30, 90, 50), 25, 8, (300, 200), around) == (x, y, x + 25, y + 8)


def test_text_of_the_box_is_filled_only_for_correct_detections():
    def ink(style):
        return is_red(draw_marks(blank(), [Mark((20, 40, 100, 70), RED, style, "car")], 12))[:38].float().mean()

    assert ink(DETECTION) > 2 * ink(FALSE_ALARM) > 0


def test_captions_and_legends_cover_nothing():
    image = torch.randint(0, 256, (3, 50, 300), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    keys = [Key("car", RED, DETECTION), Key("ON events", (0, 0, 255))]
    assert torch.equal(add_texts(image, "", (), 20), image)
    assert torch.equal(add_texts(image, "street", (), 20)[:, -50:], image)
    below = add_texts(image, "", keys, 20)
    assert torch.equal(below[:, :50], image) and is_red(below[:, 50:]).any()
    assert add_texts(image, "", keys * 5, 20).shape[1] > below.shape[1], "as many rows as necessary"


def test_a_wide_caption_keeps_its_end():
    """The end has the time of the frame."""
    image, end = blank(20, 200), "t = 1.25 s"
    start = "a_very_long_name_of_a_recording_2.raw   "
    shown = add_texts(image, start + end, (), 20)
    assert shown.shape[2] == 200
    other = add_texts(image, start + "t = 9.87 s", (), 20)
    assert not torch.equal(shown, other)


def test_long_names_are_shortened():
    assert shorten("pedestrian", 10) == "pedestrian"
    assert shorten("articulated bus", 10) == "articul..."
    assert _text_width("pedestrian", 20) > _text_width("car", 20) > 20
