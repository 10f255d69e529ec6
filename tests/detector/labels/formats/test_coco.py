import json

import numpy as np
import pytest
from pycocotools.coco import COCO as Dataset

from detector.events import BBOX_dtype
from detector.inference.writers import BOX_FILES, Scene
from detector.labels.formats.coco import COCO
from detector.labels.label_format import LabelFile

CATEGORIES = [{"id": 1, "name": "car"}, {"id": 5, "name": "bus"}]


def read(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return COCO.read(path)


def dataset(images, *annotations):
    return {"images": images, "categories": CATEGORIES, "annotations": list(annotations)}


def annotation(image=1, **more):
    return {"id": 1, "image_id": image, "category_id": 5, "bbox": [1.5, 20, 30, 4], **more}


def test_export_of_cvat(tmp_path):
    images = [
        {"id": 1, "width": 304, "height": 240, "file_name": "frame_000007.png", "license": 0, "date_captured": 0},
        {"id": 2, "width": 304, "height": 240, "file_name": "frame_000009.png"},
    ]
    found = read(tmp_path, dataset(images, annotation(attributes={"occluded": False, "track_id": 3}, iscrowd=0)))
    assert found.names == {1: "car", 5: "bus"}
    assert found.image_size == (240, 304)
    assert found.numbered
    assert found.time_unit is None
    assert found.empty.tolist() == [9]
    assert found.boxes.dtype.names == ("t", "x", "y", "w", "h", "class_id", "class_confidence", "track_id")
    assert found.boxes.tolist() == [(7, 1.5, 20, 30, 4, 5, 1.0, 3)]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("frame_000012.png", 12),
        ("images\\3\\abcd1234-frame_0012.jpg", 12),
        ("video1_mp4-12_jpg.rf.0a1b2c3d4e5f99.jpg", 12),
        ("frame_000012_png.rf.ab12.jpg", 12),
        ("photo_66960-201_avif.rf.e10f26aa877b094c8799273c85a6c447.jpg", 201),
        ("0012", 12),
    ],
)
def test_numbers_in_names_of_images(name, image, tmp_path):
    assert read(tmp_path, dataset([{"id": 1, "file_name": name}], annotation())).boxes["t"].tolist() == [image]


@pytest.mark.parametrize(
    ("entry", "unit", "numbered"),
    [("t", "us", False), ("timestamp", None, False), ("timestamp_ms", "ms", False), ("frame_id", None, True)],
)
def test_times_of_images(entry, unit, numbered, tmp_path):
    found = read(tmp_path, dataset([{"id": "a", entry: 33, "file_name": "frame_5"}], annotation("a")))
    assert (found.boxes["t"].tolist(), found.time_unit, found.numbered) == ([33], unit, numbered)


def test_crowds_polygons_and_unusual_track_ids(tmp_path):
    polygon = {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [[5, 1, 9.5, 2, 7, 8], [6, 11, 6, 3]]}
    rows = [annotation(iscrowd=1), polygon, annotation(image=2, ignore=1), annotation(score=0.25, track_id="c0ffee")]
    found = read(tmp_path, dataset([{"id": 1, "t": 10}, {"id": 2, "t": 20}], *rows))
    assert found.boxes.tolist() == [(10, 5, 1, 4.5, 10, 1, 1.0), (10, 1.5, 20, 30, 4, 5, 0.25)]
    assert found.empty.tolist() == []  # its only annotation is a crowd
    assert found.notes == (
        "2 annotations of crowds or ignored regions are not used, nor images that have no others",
        "track ids that are not whole numbers are not used",
    )


def test_a_track_id_of_minus_one_is_none(tmp_path):
    rows = [annotation(track_id=-1), annotation(track_id=-2), annotation(track_id=3)]
    assert read(tmp_path, dataset([{"id": 1, "t": 10}], *rows)).boxes["track_id"].tolist() == [0, -2, 3]


def test_list_of_results(tmp_path):
    found = read(tmp_path, [annotation(image=42, score=0.5), annotation(image=7, score=0.75)])
    assert found.boxes[["t", "class_confidence"]].tolist() == [(42, 0.5), (7, 0.75)]
    assert found.numbered
    assert found.names == {}


IMAGES = [{"id": 1, "t": 0}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("3", r"contains a int, allowed: a COCO file"),
        ("[" * 100_000, r"nested too deeply|Expecting value"),
        ({"images": IMAGES}, r"'annotations' is missing, allowed: the lists \"images\""),
        ({"images": {}, "annotations": []}, r"'images' is not a list"),
        (dataset([3]), r"entry 0 of 'images': got a int, allowed: an object"),
        (dataset(IMAGES * 2), r"two images have the same id, allowed: different ids"),
        (dataset([{"id": 1}]), r"entry 0 of 'images' has no time, needed: t in microseconds, t_us, .* file_name"),
        (dataset([{"id": 1, "file_name": "left.png"}]), r"'left.png' does not contain an image number"),
        (
            dataset([{"id": 1, "file_name": "a_7.png"}, {"id": 2, "file_name": "b_07.png"}]),
            r"a_7.png and b_07.png both have the image number 7, allowed: images of one recording",
        ),
        (dataset([*IMAGES, {"id": 2}]), r"entry 1 of 'images': t: got None, allowed: a number"),
        (dataset([{"id": True, "t": 1}]), r"entry 0 of 'images': id: got True, allowed: a whole number"),
        (
            dataset([{"id": 1, "t": 1, "height": 2, "width": 3}, {"id": 2, "t": 1, "height": 4, "width": 5}]),
            r"images with the \(height, width\) \(2, 3\) and \(4, 5\), allowed: the same in all images",
        ),
        (dataset([{"id": 1, "t": 1, "height": 10**400, "width": 5}]), r"entry 0 of 'images': got the image size 1000"),
        (
            dataset([{"id": 1, "t": 1, "height": -3, "width": 5}]),
            r"size -3 x 5, allowed: whole numbers from 1 to 65536",
        ),
        (dataset([]), r"there are no images: the list 'images' is empty"),
        (
            {**dataset(IMAGES), "videos": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]},
            r"several recordings, video 'a' and video 'b', allowed: one",
        ),
        (dataset(IMAGES, annotation(image=2)), r"annotation 1: the image_id 2 is not in 'images'"),
        (dataset(IMAGES, annotation(image=[])), r"annotation 1: image_id: got a list, allowed: a whole number"),
        (dataset(IMAGES, annotation(bbox=[1, 2, 3])), r"annotation 1: the bbox is not a list of 4 numbers"),
        (dataset(IMAGES, annotation(bbox=[1, 2, 3, "4"])), r"annotation 1: bbox: got '4', allowed: a number"),
        (
            dataset(IMAGES, annotation(bbox=None, segmentation=[[1, 2, 3]])),
            r"polygons have 2 x and 1 y, allowed: pairs",
        ),
        (dataset(IMAGES, annotation(bbox=None, segmentation=[[]])), r"polygons have 0 x and 0 y, allowed: pairs"),
        (dataset(IMAGES, annotation(bbox=None)), r"annotation 1 has no bbox, needed: bbox"),
        (dataset(IMAGES, annotation(category_id=1.5)), r"category_id: got 1.5, allowed: a whole number"),
        (dataset(IMAGES, annotation(bbox=[1, 2, 3, 10**400])), r"a number is too large"),
        (
            {**dataset(IMAGES), "categories": [{"id": 1.5, "name": "a"}]},
            r"entry 0 of 'categories': id: got 1.5, allowed",
        ),
        ({**dataset(IMAGES), "categories": [{"id": 1, "name": 3}]}, r"got the name 3, allowed: a text"),
        (
            {**dataset(IMAGES), "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
            r"the category id 1 has the names 'a' and 'b', allowed: one name",
        ),
    ],
)
def test_errors(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)


def sample(tracks=(7, 0, 8)):
    boxes = np.zeros(3, BBOX_dtype)
    boxes["t"], boxes["class_id"], boxes["track_id"] = [50, 50, 150], [5, 1, 5], tracks
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [0.1, -4.7, 5], [1 / 3, 70, 8], [10, 20, 30.3], [15, 25, 35]
    boxes["class_confidence"] = [1, 0.3, 0.7]
    return boxes


def test_round_trip_and_pycocotools(tmp_path):
    path = tmp_path / "a.json"
    COCO.write(path, LabelFile(sample(), {1: "car", 5: "bus"}, (240, 304), np.array([100])))
    found = COCO.read(path)
    assert found.boxes.astype(BBOX_dtype).size == 3
    for name in BBOX_dtype.names:
        assert np.array_equal(found.boxes[name].astype(BBOX_dtype[name]), sample()[name]), name
    assert (found.names, found.image_size, found.time_unit) == ({1: "car", 5: "bus"}, (240, 304), "us")
    assert found.empty.tolist() == [100]
    written = json.loads(path.read_text())["annotations"]
    assert [(row["id"], row["image_id"], row["iscrowd"]) for row in written] == [(1, 1, 0), (2, 1, 0), (3, 3, 0)]
    assert [row["area"] for row in written] == pytest.approx([150, 500, 1060.5])
    loaded = Dataset(str(path))
    assert [image["t"] for image in loaded.loadImgs(loaded.getImgIds())] == [50, 100, 150]
    assert len(loaded.getAnnIds(imgIds=1)) == 2
    assert loaded.loadCats(5)[0]["name"] == "bus"
    results = loaded.loadRes(json.loads(path.read_text())["annotations"])
    assert len(results.getAnnIds()) == 3


def test_predictions_are_read_exactly(tmp_path):
    boxes = sample(tracks=0)
    with BOX_FILES[".json"](tmp_path / "p.json", Scene({1: "car", 5: "bus"}, 50, 240, 304)) as add:
        add(50, boxes[:2], None)
        add(100, boxes[:0], None)
        add(150, boxes[2:], None)
    assert COCO.matches(tmp_path / "p.json")
    found = COCO.read(tmp_path / "p.json")
    assert (found.names, found.image_size, found.numbered) == ({1: "car", 5: "bus"}, (240, 304), False)
    assert found.empty.tolist() == [100]
    for name in ("t", "x", "y", "w", "h", "class_id", "class_confidence"):
        assert np.array_equal(found.boxes[name].astype(BBOX_dtype[name]), boxes[name]), name


def test_images_of_several_videos(tmp_path):
    images = [{"id": 1, "video_id": 1, "frame_id": 0}, {"id": 2, "video_id": 2, "frame_id": 0}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    with pytest.raises(ValueError, match="several recordings, video 1 and video 2, allowed: one; split them"):
        COCO.read(tmp_path / "a.json")


def test_images_with_crowds_only_are_not_background(tmp_path):
    images = [{"id": number, "t": 10 * number} for number in (1, 2, 3)]
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    boxes.append({"id": 2, "image_id": 2, "category_id": 1, "bbox": [5, 6, 7, 8], "iscrowd": 1})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = COCO.read(tmp_path / "a.json")
    assert (found.boxes["t"].tolist(), found.empty.tolist()) == ([10], [30])


def test_results_of_crowds_only_are_not_background(tmp_path):
    found = read(tmp_path, [annotation(image=3), annotation(image=4, iscrowd=1)])
    assert (found.boxes["t"].tolist(), found.empty.tolist()) == ([3], [])


def test_no_labels_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="there are no labels to write"):
        COCO.write(tmp_path / "a.json", LabelFile(sample()[:0], {1: "car"}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', True),
        ('[{"image_id": 1}]', False),
        ('[{"bbox": [1, 2, 3, 4]}]', False),
        ('{"annotations"\t:\t\n [', True),
        ('{"info": {"categories": 3}}', False),
        ('"image_id" "bbox"', False),
    ],
)
def test_the_beginning_of_a_coco_file(tmp_path, text, expected):
    (tmp_path / "a.json").write_text(text)
    assert COCO.matches(tmp_path / "a.json") == expected
