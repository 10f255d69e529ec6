import numpy as np
import pytest
import torch

from detector.visualization.drawing import (
    BACKGROUND,
    CLASS_COLORS,
    OFF_COLOR,
    ON_COLOR,
    TARGET_COLOR,
    contact_sheet,
    draw_boxes,
    draw_detections,
    events_to_image,
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


def test_boxes_are_drawn_on_a_copy():
    image = blank()
    drawn = draw_boxes(image, np.array([[5.0, 6.0, 20.0, 30.0]]), color=(255, 0, 0))
    assert color_at(drawn, 6, 10) == color_at(drawn, 30, 10) == color_at(drawn, 20, 5) == (255, 0, 0)
    assert color_at(drawn, 20, 10) == color_at(drawn, 20, 25) == (255, 255, 255)
    assert (image == 255).all()


def test_each_box_has_its_color_and_the_outside_is_cut_off():
    boxes = torch.tensor([[-30.0, -30.0, 25.0, 30.0], [35.0, 20.0, 500.0, 500.0]])
    drawn = draw_boxes(blank(), boxes, ["a", "b"], [(255, 0, 0), (0, 0, 255)])
    assert color_at(drawn, 30, 15) == color_at(drawn, 25, 25) == (255, 0, 0)
    assert color_at(drawn, 39, 55) == color_at(drawn, 35, 59) == (0, 0, 255)


def test_no_boxes_leave_the_image():
    image = blank()
    drawn = draw_boxes(image, torch.zeros(0, 4), [])
    assert torch.equal(drawn, image)
    assert drawn is not image


def detections(*rows):
    columns = torch.tensor(rows).reshape(-1, 6)
    return {"boxes": columns[:, :4], "scores": columns[:, 4], "labels": columns[:, 5].long()}


def test_detections_and_ground_truth_on_an_enlarged_frame():
    found = detections((10.0, 10.0, 40.0, 50.0, 0.9, 2.0), (60.0, 10.0, 90.0, 50.0, 0.3, 1.0))
    image = draw_detections(
        torch.zeros(2, 100, 120), found, ["pedestrian", "car"], targets=torch.tensor([[70.0, 60.0, 90.0, 90.0, 1.0]])
    )
    assert image.shape == (3, 500, 600)  # 5 is the smallest factor that makes 100 rows at least 480
    assert color_at(image, 250, 100) == CLASS_COLORS[1]  # the car's lower edge
    assert not has_color(image, CLASS_COLORS[0])  # below the threshold
    assert color_at(image, 450, 400) == TARGET_COLOR
    assert has_color(draw_detections(torch.zeros(2, 100, 120), found, ["a", "b"], score_thresh=0.3), CLASS_COLORS[0])


def test_no_detections_and_a_large_frame():
    image = draw_detections(torch.zeros(2, 500, 20), detections(), ["car"], targets=torch.zeros(0, 5))
    assert torch.equal(image, events_to_image(torch.zeros(2, 500, 20)))


def test_contact_sheet_places_images_in_rows():
    images = [torch.full((3, 10, 20), value, dtype=torch.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(images, columns=2)
    assert sheet.shape == (3, 4 + 2 * (10 + 4), 4 + 2 * (20 + 4))
    assert color_at(sheet, 5, 5) == (10, 10, 10)
    assert color_at(sheet, 5, 30) == (20, 20, 20)
    assert color_at(sheet, 20, 5) == (30, 30, 30)
    assert contact_sheet(images[:1], columns=4).shape == (3, 10, 20)


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
