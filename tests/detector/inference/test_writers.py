import json

import numpy as np
import pytest
import torch
from PIL import Image

from detector.events import BBOX_dtype
from detector.events.frames import Frames
from detector.inference.frames_file import frames_path, read_frames
from detector.inference.writers import BOX_FILES, Scene
from detector.labels import load_labels

SCENE = Scene({3: "car", 0: "walker"}, 50_000, 480, 640)
BOXES = np.array(
    [(100_000, 1.5, 2, 30, 40, 3, 0, 0.875), (100_000, 320, 240, 64, 48, 0, 0, 0.5), (200_000, 0, 0, 8, 9, 3, 0, 0.75)],
    BBOX_dtype,
)


def write(path, boxes=BOXES):
    """Three frames, of which the second has no boxes."""
    histogram = np.zeros((2, 240, 320), np.uint8)
    with BOX_FILES[path.suffix](path, SCENE) as add:
        for end in (100_000, 150_000, 200_000):
            add(end, boxes[boxes["t"] == end], histogram)
    return path


@pytest.mark.parametrize("boxes", [BOXES, BOXES[:0], np.repeat(BOXES, 1000)], ids=len)
def test_npy_is_a_file_of_labels(tmp_path, boxes):
    path = write(tmp_path / "a.npy", boxes)
    np.testing.assert_array_equal(load_labels(path), np.sort(boxes, order="t", kind="stable"))
    assert np.load(path).dtype == BBOX_dtype


def test_csv_is_a_table(tmp_path):
    assert write(tmp_path / "a.csv").read_text().splitlines() == [
        "t,x,y,w,h,class_id,class_confidence,class_name",
        "100000,1.5,2.0,30.0,40.0,3,0.875,car",
        "100000,320.0,240.0,64.0,48.0,0,0.5,walker",
        "200000,0.0,0.0,8.0,9.0,3,0.75,car",
    ]


def test_json_is_a_coco_dataset(tmp_path, capsys):
    from pycocotools.coco import COCO

    path = write(tmp_path / "a.json")
    coco = COCO(str(path))
    assert coco.dataset["categories"] == [{"id": 3, "name": "car"}, {"id": 0, "name": "walker"}]
    assert [(image["id"], image["t"]) for image in coco.dataset["images"]] == [(1, 100_000), (2, 150_000), (3, 200_000)]
    assert coco.imgs[2] == {"id": 2, "t": 150_000, "width": 640, "height": 480}
    assert [len(coco.getAnnIds(imgIds=[number])) for number in (1, 2, 3)] == [2, 0, 1]
    assert coco.anns[2] == {
        "id": 2,
        "image_id": 1,
        "category_id": 0,
        "bbox": [320, 240, 64, 48],
        "area": 64 * 48,
        "iscrowd": 0,
        "score": 0.5,
    }
    assert len(coco.loadRes(coco.dataset["annotations"]).anns) == 3
    assert json.loads(write(tmp_path / "none.json", BOXES[:0]).read_text())["annotations"] == []


def test_videos_show_the_boxes(tmp_path):
    from detector.visualization.drawing import BACKGROUND, CLASS_COLORS

    with Image.open(write(tmp_path / "a.gif")) as video:
        assert (video.n_frames, video.size[0]) == (3, 640)
        assert video.size[1] > 480 + 2 * 20, "a caption above, a legend below"
        frames = []
        for number in range(3):
            video.seek(number)
            frames.append(np.asarray(video.convert("RGB")).astype(int))
    caption = 32  # rows; text of 20 rows and a margin
    frame, empty = frames[0][caption:], frames[1][caption:]
    # In this image a pixel of the sensor is a pixel: histograms have half of its size and are shown twice as large.
    assert np.abs(frame[287, 350] - CLASS_COLORS[1]).max() < 8  # the walker's lower edge
    assert np.abs(frame[20, 2] - CLASS_COLORS[0]).max() < 8  # the car's left edge
    assert (np.abs(frame[200, 500] - BACKGROUND) < 8).all()
    assert len(np.unique(empty[:480].reshape(-1, 3), axis=0)) == 1
    assert (np.abs(frames[0][:caption] - frames[1][:caption]).max(axis=(0, 2)) > 100).any(), "times differ"
    np.testing.assert_array_equal(frame[480:] < 128, empty[480:] < 128)  # the same legend


@pytest.mark.parametrize("kind", [kind for kind in BOX_FILES if kind != ".mp4"])
def test_a_file_that_is_broken_off_leaves_nothing(tmp_path, kind):
    with pytest.raises(KeyError), BOX_FILES[kind](tmp_path / f"a{kind}", SCENE) as add:
        add(100_000, BOXES[:2], np.zeros((2, 24, 32), np.uint8))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [".npy", ".csv", ".json"])
def test_the_frames_are_written_and_replaced(tmp_path, kind):
    path = write(tmp_path / f"a{kind}")
    assert read_frames(path) == Frames(50_000, 50_000, 3)
    with BOX_FILES[kind](path, SCENE) as add:
        add(500_000, BOXES[:0], np.zeros((2, 24, 32), np.uint8))
    assert read_frames(path) == Frames(450_000, 50_000, 1)


@pytest.mark.parametrize("kind", [".npy", ".csv"])
def test_new_boxes_never_have_the_frames_of_an_earlier_file(tmp_path, kind, monkeypatch):
    path = write(tmp_path / f"a{kind}")

    def broken(*_):
        raise OSError("full")

    monkeypatch.setattr("detector.inference.writers.write_frames", broken)
    with pytest.raises(OSError, match="full"):
        write(path, BOXES[:1])
    assert not frames_path(path).exists()


def test_a_video_gives_corners_scores_labels_and_time(tmp_path, monkeypatch):
    seen = []

    def draw(*args, **options):
        seen.append((*args, options))
        return torch.zeros((3, 8, 8), dtype=torch.uint8)

    monkeypatch.setattr("detector.visualization.drawing.draw_detections", draw)
    write(tmp_path / "a.gif", BOXES[:2])
    _, found, names, options = seen[0]
    assert found["boxes"].tolist() == [[0.75, 1, 15.75, 21], [160, 120, 192, 144]]
    assert (found["scores"].tolist(), found["labels"].tolist(), names) == ([0.875, 0.5], [1, 2], ["car", "walker"])
    assert options == {"score_thresh": 0.0, "caption": "t = 0.10 s"}
    assert [args[-1]["caption"] for args in seen[1:]] == ["t = 0.15 s", "t = 0.20 s"]
