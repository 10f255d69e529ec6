from typing import NamedTuple

import numpy as np
import pytest
import torch

from detector.events.frames import Frames
from detector.visualization import drawing
from detector.visualization.drawing import (
    BACKGROUND,
    CLASS_COLORS,
    OFF_COLOR,
    ON_COLOR,
    TARGET_COLOR,
    contact_sheet,
    draw_detections,
    draw_stream,
    events_to_image,
    frame_caption,
    legend_of,
    match_labels,
    save_gif,
    save_png,
)


def color_at(image, y, x):
    return tuple(image[:, y, x].tolist())


def has_color(image, color):
    return bool((image == torch.tensor(color, dtype=torch.uint8)[:, None, None]).all(0).any())


def blank(height=40, width=60):
    return torch.full((3, height, width), 255, dtype=torch.uint8)


def test_colors_of_events():
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0, 0] = frame[1, 0, 1] = 4
    frame[:, 1, 1] = 2
    frame[1, 1, 2] = 1
    image = events_to_image(frame)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 2, 3)
    assert color_at(image, 0, 0) == OFF_COLOR
    assert color_at(image, 0, 1) == ON_COLOR
    assert color_at(image, 0, 2) == BACKGROUND
    assert color_at(image, 1, 1) == tuple((a + b) // 2 for a, b in zip(OFF_COLOR, ON_COLOR, strict=True))
    # One of at most four events: half the colour.
    assert color_at(image, 1, 2) == tuple((a + b) // 2 for a, b in zip(BACKGROUND, ON_COLOR, strict=True))


def test_scaled_counts_and_more_bins_give_the_same_image():
    counts = torch.randint(0, 5, (2, 6, 7), generator=torch.Generator().manual_seed(0))
    bins = torch.cat([counts, torch.zeros_like(counts)])
    assert torch.equal(events_to_image(counts), events_to_image(counts / 5))
    assert torch.equal(events_to_image(counts), events_to_image(bins))


def test_frame_without_events_is_background():
    image = events_to_image(torch.zeros(2, 3, 4))
    assert (image == torch.tensor(BACKGROUND, dtype=torch.uint8)[:, None, None]).all()


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 4)])
def test_frame_of_another_shape(shape):
    with pytest.raises(ValueError, match="frame: got shape"):
        events_to_image(torch.zeros(shape))


def detections(*rows):
    columns = torch.tensor(rows).reshape(-1, 6)
    return {"boxes": columns[:, :4], "scores": columns[:, 4], "labels": columns[:, 5].long()}


def test_detections_and_ground_truth_on_an_enlarged_frame():
    found = detections((10.0, 10.0, 40.0, 50.0, 0.9, 2.0), (60.0, 10.0, 90.0, 50.0, 0.3, 1.0))
    truth = torch.tensor([[70.0, 60.0, 90.0, 90.0, 1.0]])
    frame, names = torch.zeros(2, 100, 120), ["pedestrian", "car"]
    image = draw_detections(frame, found, names, targets=truth, legend=())
    assert image.shape == (3, 500, 600)  # 5 is the smallest factor that makes 100 rows at least 480
    assert color_at(image, 250, 55) == CLASS_COLORS[1]  # the car's lower edge
    assert not has_color(image, CLASS_COLORS[0])  # below the threshold
    assert color_at(image, 450, 352) == TARGET_COLOR
    assert has_color(draw_detections(frame, found, ["a", "b"], score_thresh=0.3, legend=()), CLASS_COLORS[0])
    larger = draw_detections(frame, found, names, targets=truth, caption="a")
    caption = (larger.shape[1] - 500) // 3
    assert larger.shape[1] > 540 and larger.shape[2] == 600, "a caption above, a legend below"
    assert 20 < caption < 60 and color_at(larger, 499 + 34, 599) == color_at(image, 499, 599)


def test_line_styles_tell_correct_from_wrong_detections():
    """A detection on a label has solid lines; one without a label has gaps, and so has a missed label."""
    found = detections((10.0, 10.0, 50.0, 450.0, 0.9, 1.0))

    def left_edge(targets):
        """Share of the rows from 100 to 430 with the colour of the car, and with that of labels, at x = 10."""
        image = draw_detections(torch.zeros(2, 480, 120), found, ["car", "bus"], targets, legend=())
        return tuple(
            (image[:, 100:430, 10] == torch.tensor(color, dtype=torch.uint8)[:, None]).all(0).float().mean().item()
            for color in (CLASS_COLORS[0], TARGET_COLOR)
        )

    assert left_edge(None) == (1, 0)
    assert left_edge(torch.tensor([[10.0, 10.0, 50.0, 440.0, 1.0]])) == (1, 0), "the label is below the detection"
    false_alarm, _ = left_edge(torch.zeros(0, 5))
    assert false_alarm == pytest.approx(12 / 19, abs=0.05)
    missed = torch.tensor([[10.0, 10.0, 50.0, 450.0, 2.0]])
    found = detections()
    assert left_edge(missed) == (0, pytest.approx(4 / 10, abs=0.05))


def test_the_best_score_takes_the_label_and_classes_do_not_mix():
    found = detections(
        (0.0, 0.0, 10.0, 10.0, 0.5, 1.0), (1.0, 0.0, 11.0, 10.0, 0.9, 1.0), (50.0, 0.0, 60.0, 10.0, 0.8, 2.0)
    )
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0, 1.0], [50.0, 0.0, 60.0, 10.0, 1.0]])
    right, hit = match_labels(found, truth)
    assert right.tolist() == [False, True, False]
    assert hit.tolist() == [True, False]
    right, hit = match_labels(found, truth[:0])
    assert right.tolist() == [False] * 3 and hit.tolist() == []
    assert match_labels(detections(), truth)[1].tolist() == [False, False]


def test_no_detections_and_a_large_frame():
    image = draw_detections(torch.zeros(2, 500, 20), detections(), ["car"], targets=torch.zeros(0, 5), legend=())
    assert torch.equal(image, events_to_image(torch.zeros(2, 500, 20)))


def test_legend_names_classes_and_line_styles():
    texts = [key.text for key in legend_of(["car", "x" * 100], with_targets=True)]
    assert texts[0] == "car" and len(texts[1]) == 40 and texts[1].endswith("...")
    assert {"detection, correct", "false alarm", "label, found", "label, missed", "ON events"} <= set(texts)
    assert len({key.style for key in legend_of(["car"], True) if key.style}) == 4
    many = [key.text for key in legend_of([f"class {k}" for k in range(80)], with_targets=False)]
    assert "class 5" in many and "class 6" not in many and "and 74 more classes" in many
    assert not any("label" in text for text in many)


def test_caption_has_recording_and_time():
    assert frame_caption("/data/street.raw", 1_250_000) == "street.raw   t = 1.25 s"
    assert frame_caption("", 50_000) == "t = 0.05 s"


def test_images_of_a_stream_have_one_size_with_and_without_labels():
    class Info(NamedTuple):
        name: str
        frames: Frames

    batch = {
        "inputs": torch.zeros(3, 1, 2, 40, 60),
        "labels": [[torch.tensor([[5.0, 5.0, 30.0, 30.0, 1.0]])], [torch.zeros(0, 5)], [torch.zeros(0, 5)]],
        "frame_is_labeled": torch.tensor([[True], [False], [True]]),
        "video_infos": [(Info("street", Frames(0, 50_000, 9)), 4)],
    }
    found = detections((5.0, 5.0, 30.0, 30.0, 0.9, 1.0))
    images = list(draw_stream(batch, [[found]] * 3, ["car"]))
    assert len({tuple(image.shape) for image in images}) == 1
    body = [image[:, 40:520] for image in images]
    assert not torch.equal(body[1], body[2]), "without labels nothing is a false alarm; with an empty frame, it is"
    ended = {**batch, "video_infos": [(None, 0)], "frame_is_labeled": torch.zeros(3, 1, dtype=torch.bool)}
    assert images[0].shape == next(draw_stream(ended, [[detections()]] * 3, ["car"])).shape


def test_contact_sheet_places_images_in_rows():
    images = [torch.full((3, 10, 20), value, dtype=torch.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(images, columns=2)
    assert sheet.shape == (3, 4 + 2 * (10 + 4), 4 + 2 * (20 + 4))
    assert color_at(sheet, 5, 5) == (10, 10, 10)
    assert color_at(sheet, 5, 30) == (20, 20, 20)
    assert color_at(sheet, 20, 5) == (30, 30, 30)
    assert contact_sheet(images[:1], columns=4).shape == (3, 10, 20)
    images = [torch.full((3, 240, 480), value, dtype=torch.uint8) for value in (10, 20)]
    plain, titled = (
        contact_sheet(images, 2, *texts) for texts in ((), ("run a, split test", legend_of(["car"], True)))
    )
    assert titled.shape[2] == plain.shape[2]
    top = titled.shape[1] - plain.shape[1]
    assert top > 30 and any(torch.equal(titled[:, k : k + plain.shape[1]], plain) for k in range(1, top))


@pytest.mark.parametrize("images", [[], [blank(10, 10), blank(10, 12)]])
def test_contact_sheet_of_nothing_or_of_several_sizes(images):
    with pytest.raises(ValueError, match="images: got sizes"):
        contact_sheet(images, columns=2)


def test_png_holds_the_image(tmp_path):
    from PIL import Image

    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = save_png(tmp_path / "new" / "image.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image.permute(1, 2, 0).numpy())
    assert [entry.name for entry in path.parent.iterdir()] == ["image.png"]


def test_gif_holds_every_image(tmp_path):
    from PIL import Image

    path = save_gif(tmp_path / "video.gif", [blank(), blank() // 2, blank() // 4], delta_t=50_000)
    with Image.open(path) as video:
        assert video.n_frames == 3
        assert video.info["duration"] == 50
    with pytest.raises(ValueError, match="images: got none"):
        save_gif(tmp_path / "none.gif", [], delta_t=50_000)


def test_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "image.png").mkdir()
    with pytest.raises(OSError, match="image"):
        save_png(tmp_path / "image.png", blank())
    assert [entry.name for entry in tmp_path.iterdir()] == ["image.png"]


def test_texts_have_a_share_of_the_height():
    frame = torch.zeros(2, 240, 200)
    assert draw_detections(frame, detections(), ["car"], legend=()).shape == (3, 480, 400)
    # Texts of 480 / 24 = 20 rows: a caption of 32 rows; a legend of one row of 30 rows and a margin of 5.
    assert draw_detections(frame, detections(), ["car"], caption="a", legend=()).shape == (3, 512, 400)
    keys = legend_of(["car"], False)[:1]
    assert draw_detections(frame, detections(), ["car"], legend=keys).shape == (3, 515, 400)
    sheet = contact_sheet([blank(480, 400)], 1, "a")
    assert sheet.shape == (3, 480 + round(1.6 * 24), 400)


def test_the_score_decides_what_is_shown_and_what_is_on_top():
    frame = torch.zeros(2, 480, 300)
    at_limit, below = (detections((100.0, 100.0, 200.0, 200.0, score, 1.0)) for score in (0.4, 0.39))
    assert color_at(draw_detections(frame, at_limit, ["car"], legend=()), 150, 100) == CLASS_COLORS[0]
    assert not has_color(draw_detections(frame, below, ["car"], legend=()), CLASS_COLORS[0])
    rows = [(100.0, 100.0, 200.0, 200.0, score, label) for score, label in ((0.8, 2.0), (0.9, 8.0), (0.7, 3.0))]
    image = draw_detections(frame, detections(*rows), [f"class {k}" for k in range(8)], legend=())
    assert color_at(image, 150, 100) == CLASS_COLORS[1]  # of class 8, because there are 6 colours
    first = draw_detections(frame, detections(rows[0]), ["car", "bus"], torch.tensor([[0.0, 0, 9, 9, 2]]), legend=())
    assert color_at(first, 100, 101) == CLASS_COLORS[1], "a dash begins at the corner"


def test_texts_of_detections_and_missed_labels(monkeypatch):
    seen = []
    monkeypatch.setattr(drawing, "draw_marks", lambda image, marks, size: (seen.append((marks, size)), image)[1])
    found = detections((10.0, 20.0, 30.0, 50.0, 0.876, 1.0), (60.0, 10.0, 90.0, 50.0, 0.5, 2.0))
    truth = torch.tensor([[10.0, 20, 30, 50, 1, 7], [1, 2, 4, 8, 2, 7]])
    draw_detections(torch.zeros(2, 240, 200), found, ["car", "articulated city bus"], truth)
    ((marks, size),) = seen
    assert size == 20
    short = "articulated c..."
    assert [mark.text for mark in marks] == ["", f"missed {short}", f"{short} 0.50", "car 0.88"]
    assert [mark.corners for mark in marks] == [
        (20, 40, 60, 100),
        (2, 4, 8, 16),
        (120, 20, 180, 100),
        (20, 40, 60, 100),
    ]
    assert [mark.color for mark in marks] == [TARGET_COLOR] * 2 + [CLASS_COLORS[1], CLASS_COLORS[0]]
    styles = [drawing.FOUND_LABEL, drawing.MISSED_LABEL, drawing.FALSE_ALARM, drawing.DETECTION]
    assert [mark.style for mark in marks] == styles


def test_a_match_needs_half_of_the_union_and_a_free_label():
    # 10 x 10 and 10 x 5: IoU exactly 0.5; with 10 x 4.9 a little less.
    truth = torch.tensor([[0.0, 0, 10, 10, 1]])
    assert match_labels(detections((0.0, 0.0, 10.0, 5.0, 0.9, 1.0)), truth)[0].tolist() == [True]
    assert match_labels(detections((0.0, 0.0, 10.0, 4.9, 0.9, 1.0)), truth)[0].tolist() == [False]
    # Both detections overlap the second label most, but the second detection gets the other label.
    truth = torch.tensor([[0.0, 0, 10, 9, 1], [0, 0, 10, 10, 1]])
    right, hit = match_labels(detections(*[(0.0, 0.0, 10.0, 10.0, score, 1.0) for score in (0.8, 0.9, 0.7)]), truth)
    assert right.tolist() == [True, True, False] and hit.tolist() == [True, True]


def test_entries_of_the_legend_in_their_order():
    entries = ["detection, correct", "false alarm", "label, found", "label, missed", "ON events", "OFF events"]
    assert [key.text for key in legend_of(["car", "bus"], True)] == ["car", "bus", *entries]
    plain = legend_of([str(k) for k in range(6)], False)
    assert [key.text for key in plain] == [*"012345", "detection", "ON events", "OFF events"]
    red, orange, purple = (220, 40, 40), (230, 130, 0), (160, 60, 200)
    assert list(CLASS_COLORS) == [red, orange, purple, (0, 140, 150), (200, 40, 130), (120, 90, 20)]
    assert [BACKGROUND, OFF_COLOR, ON_COLOR] == [(250, 250, 250), (60, 60, 70), (90, 150, 240)]
    assert (TARGET_COLOR, drawing.STYLE_COLOR) == ((0, 160, 60), (90, 90, 90))
    assert [key.color for key in plain] == [*CLASS_COLORS, drawing.STYLE_COLOR, ON_COLOR, OFF_COLOR]
    more = legend_of([str(k) for k in range(7)], False)
    assert more[6].text == "and 1 more classes"


def test_a_stream_is_drawn_with_its_own_frames_labels_and_times(monkeypatch):
    class Info(NamedTuple):
        name: str
        frames: Frames

    seen = []
    monkeypatch.setattr(drawing, "draw_detections", lambda *args, **options: seen.append((*args, options)))
    inputs, rows = torch.arange(4.0).view(2, 2, 1, 1, 1), [["a", "b"], ["c", "d"]]
    batch = {
        "inputs": inputs,
        "labels": [["first", "other"], ["second", "other"]],
        "frame_is_labeled": torch.tensor([[True, False], [False, True]]),
        "video_infos": [(Info("street", Frames(1_000_000, 50_000, 9)), 4), (None, 0)],
    }
    assert len(list(draw_stream(batch, rows, ["car"]))) == 2
    assert [(float(args[0]), args[1], args[3]) for args in seen] == [(0, "a", "first"), (2, "c", None)]
    captions = [args[-1]["caption"] for args in seen]
    assert captions == ["street   t = 1.25 s", "street   t = 1.30 s   (no labels)"]
    assert all(args[-1]["legend"] == legend_of(["car"], True) for args in seen)
    list(draw_stream({**batch, "video_infos": [(None, 0)]}, rows, ["car"]))
    assert [args[-1]["caption"] for args in seen[2:]] == ["no recording", "no recording   (no labels)"]
