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

RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


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


def extent(mask):
    """First and last column, first and last row of the pixels in a mask."""
    rows, columns = mask.nonzero(as_tuple=True)
    return tuple(int(value) for value in (columns.min(), columns.max(), rows.min(), rows.max()))


def runs(line):
    """(first, last) of each group of neighbouring pixels in a line."""
    index = line.nonzero()[:, 0].tolist()
    starts = [k for k in index if k - 1 not in index]
    return list(zip(starts, [k for k in index if k + 1 not in index], strict=True))


@pytest.mark.parametrize(
    ("style", "size", "width", "first", "last"),
    [
        (FALSE_ALARM, 20, 3, [(10, 21), (29, 40)], (67, 70)),  # dashes of 12 and gaps of 7 pixels, the last one cut off
        (MISSED_LABEL, 20, 4, [(10, 13), (20, 23)], (70, 70)),  # 4 and 6
        (MISSED_LABEL, 5, 1, [(10, 11), (14, 15)], (70, 70)),  # at least 2 and 2
    ],
)
def test_dashes_by_hand(style, size, width, first, last):
    drawn = is_red(draw_marks(blank(100, 100), [Mark((10, 20, 70, 80), RED, style)], size))
    middle = torch.zeros_like(drawn)
    middle[20 + width : 81 - width, 10 + width : 71 - width] = True
    assert not (drawn & middle).any() and extent(drawn) == (10, 70, 20, 80)
    for row in (*range(20, 20 + width), *range(81 - width, 81)):
        found = runs(drawn[row, :])
        assert found[:2] == first or found[0][0] == 10
    top, left = runs(drawn[20, 10 + width : 71 - width]), runs(drawn[20 + width : 81 - width, 10])
    assert top == left, "the same pattern in both directions"
    cut = [(start - 10 - width, stop - 10 - width) for start, stop in first]
    assert top[:2] == [(max(start, 0), stop) for start, stop in cut if stop >= 0][:2] or top[0] == (
        cut[1][0],
        cut[1][1],
    )
    assert last[0] <= 70


def test_the_text_of_a_box_is_above_it():
    width = _text_width("car", 12)
    filled = is_red(draw_marks(blank(), [Mark((20, 40, 100, 70), RED, DETECTION, "car")], 12))[:40]
    assert extent(filled) == (20, 20 + width + 4, 25, 39)  # 14 rows above row 40, with a distance of one row
    assert filled[25].sum() == width + 5 and filled[39].sum() == width + 5 and filled[26:39, 20:22].all()
    hollow = is_red(draw_marks(blank(), [Mark((20, 40, 100, 70), RED, MISSED_LABEL, "car")], 12))[:40]
    assert extent(hollow) == extent(filled) and not hollow[26:39, 21].any()


def test_texts_of_later_boxes_get_the_first_place():
    marks = [Mark((20, 40, 100, 70), BLUE, DETECTION, "car"), Mark((20, 40, 100, 70), RED, DETECTION, "car")]
    drawn = draw_marks(blank(), marks, 12)
    assert is_red(drawn)[25, 20:40].all() and is_red(drawn)[40, 20:100].all()
    assert drawn[:, :40].eq(torch.tensor(BLUE, dtype=torch.uint8)[:, None, None]).all(0).any(), "at its right edge"


def test_a_text_covers_boxes_rather_than_another_text():
    around = [(0, 0, 59, 200), (86, 0, 300, 200), (0, 0, 300, 20), (0, 60, 300, 200), (60, 30, 85, 50)]
    # Above the box, 30 pixels of a box are covered; below it, 10 pixels of a text.
    assert _place((60, 30, 90, 50), 25, 8, (300, 200), [*around, (61, 52, 70, 52)], [(61, 22, 70, 24)])[1] == 21
    assert _place((60, 30, 90, 50), 25, 8, (300, 200), [*around, (61, 52, 61, 53)], [(61, 22, 70, 24)])[1] == 51


def test_sizes_of_captions_and_legends():
    image = blank(50, 400)
    assert add_texts(image, "street", (), 20).shape[1] == 50 + 32 and add_texts(image, "a", (), 10).shape[1] == 50 + 16
    ink = (add_texts(image, "H", (), 20)[:, :32] < 100).all(0)
    assert 10 <= extent(ink)[0] <= 13 and 5 <= extent(ink)[2] <= 12 and extent(ink)[1] < 30
    keys = [Key("car", RED), Key("ON events", RED)]
    row = 10 + 48 + _text_width("car", 20) + 20 + 48 + _text_width("ON events", 20)
    assert add_texts(blank(50, row), "", keys, 20).shape[1] == 50 + 35
    assert add_texts(blank(50, row - 1), "", keys, 20).shape[1] == 50 + 65
    assert add_texts(blank(50, 30), "", keys[:1], 20).shape[1] == 50 + 35


def test_samples_of_a_legend():
    lines = is_red(add_texts(blank(4, 400), "", [Key("car", RED, DETECTION)], 20)[:, 4:])
    assert extent(lines) == (10, 46, 7, 25)
    square = add_texts(blank(4, 400), "", [Key("car", RED)], 20)[:, 4:]
    assert extent(is_red(square)) == (20, 38, 7, 25) and is_red(square)[7:26, 20:39].all()
    ink = (square < 100).all(0)
    assert 54 <= extent(ink)[0] <= 58 and extent(ink)[1] <= 54 + _text_width("car", 20)
    two = is_red(add_texts(blank(4, 60), "", [Key("", RED), Key("", RED)], 20)[:, 4:])
    assert extent(two) == (20, 38, 7, 55), "the second one in the next row"
    one = is_red(add_texts(blank(4, 126), "", [Key("", RED), Key("", RED)], 20)[:, 4:])
    assert extent(one) == (20, 106, 7, 25)


def test_a_caption_loses_its_start_only_if_it_is_too_wide():
    text = "W" * 6 + "ABC"
    wide, width = blank(4, 400), _text_width(text, 20) + 20
    whole = add_texts(wide, text, (), 20)[:, :, :width]
    assert torch.equal(add_texts(wide[:, :, :width], text, (), 20), whole)
    assert torch.equal(
        add_texts(wide[:, :, : width - 1], text, (), 20), add_texts(wide, "...WWABC", (), 20)[:, :, : width - 1]
    )
