import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.inference.writers import BOX_FILES, Scene
from detector.labels.formats.csv import CSV
from detector.labels.label_format import LabelFile


def read(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    return CSV.read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "text",
    [
        "t,x,y,w,h,class_id\n50,1.5,20,30,4,3\n",
        "\ufeff# TS; Left; Top; Width; Height; Category_ID\r\n\r\n50;1.5;20;30;4;3\r\n",
        "timestamp\tx1\ty1\tx2\ty2\tlabel\n50\t1.5\t20\t31.5\t24\t3\n",
        "xmin,ymin,xmax,ymax,class,time\n1.5,20,31.5,24,3,50\n",
        "class_id,cx,cy,w,h,t\n3,16.5,22,30,4,50\n",
        ",t,x,y,w,h,class_id,note\n0,50,1.5,20,30,4,3,a b\n",
    ],
)
def test_accepted_columns(text, tmp_path):
    found = read(tmp_path, text)
    assert found.boxes[["t", "x", "y", "w", "h", "class_id"]].tolist() == [(50, 1.5, 20, 30, 4, 3)]
    assert (found.names, found.image_size, found.numbered, found.time_unit) == ({}, None, False, None)
    assert CSV.matches(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("column", "numbered", "unit"),
    [("timestamp_ms", False, "ms"), ("t_us", False, "us"), ("time_s", False, "s"), ("frame_id", True, None)],
)
def test_times_and_image_numbers(column, numbered, unit, tmp_path):
    found = read(tmp_path, f"{column},x,y,w,h,track_id,score\n7,1,2,3,4,9,0.5\n")
    assert (found.numbered, found.time_unit) == (numbered, unit)
    assert found.boxes[["t", "class_id", "track_id", "class_confidence"]].tolist() == [(7, 0, 9, 0.5)]
    assert found.notes == ("there is no column of classes; all boxes have the class id 0",)


def test_export_of_roboflow(tmp_path):
    text = (
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        'rec_mp4-12_jpg.rf.0a9.jpg,304,240,"bus, large",1,2,5,8\nframe_3.png,304,240,car,3,4,10,20\n'
    )
    found = read(tmp_path, text)
    assert found.boxes.tolist() == [(12, 1, 2, 4, 6, 0), (3, 3, 4, 7, 16, 1)]
    assert (found.names, found.image_size, found.numbered) == ({0: "bus, large", 1: "car"}, (240, 304), True)


def test_lines_without_box_are_images_without_boxes(tmp_path):
    found = read(tmp_path, "t,x,y,w,h,class_id,class_name\n100,,,,,,\n50,1,2,3,4,5,bus\n50,,,,,,\n")
    assert (found.empty.tolist(), found.boxes["t"].tolist(), found.names) == ([100], [50], {5: "bus"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the first line is '', allowed: a header with t \(or frame\), x, y, w, h"),
        ("50,1,2,3,4,5\n", r"the first line is '50,1,2,3,4,5', allowed: a header with t"),
        ("t,x,y,p\n1,2,3,1\n", r"the first line is 't,x,y,p', allowed: a header"),
        ("t,x,y,w,h\n1,2,3,4\n", r"line 2: got 4 columns, allowed: 5 as in line 1"),
        ("t,x,y,w,h\n1,2,3,4,\n", r"line 2: h: got '', allowed: a number"),
        ("t,x,y,w,h\n\n1,2,3,4,0x1\n", r"line 3: h: got '0x1', allowed: a number"),
        ("0,10.5,20,5,6,0\n", r"the first line is '0,10.5,20,5,6,0', allowed: a header with t "),
        ("t,t,y,w,h\n", r"two columns have the name 't', allowed: different names"),
        ("t,x,y,w,h,class_id,class_name\n1,2,3,4,5,6,a\n1,2,3,4,5,6,b\n", r"class id 6 has the names 'a' and 'b'"),
        (
            "filename,x1,y1,x2,y2\na_3.png,1,2,3,4\nb/3.png,1,2,3,4\n",
            r"a_3.png and b/3.png both have the image number 3",
        ),
        ("filename,xmin,ymin,xmax,ymax\nleft.png,1,2,3,4\n", r"'left.png' does not contain an image number"),
        ("t,x,y,xmin,ymin,xmax,ymax\n1,2,3,4,5,6,7\n", r"columns 'x' and 'xmin' may both be the left of the box"),
        ("t,x,y,w,h,label\n1,2,3,4,5,car\n1,2,3,4,5,\n", r"line 3: label is blank, allowed: the class of the box"),
        ("video,frame,x,y,w,h\nA,0,1,1,9,9\nB,0,1,1,9,9\n", r"several recordings, video A and video B, allowed: one"),
        ("t,x1,y1,x2,y2,width,height\n1,2,3,4,5,70000,480\n", r"got the image size 480 x 70000, allowed: whole"),
        ('t,x,y,w,h\n"' + "1" * 200_000, r"line 2: field larger than field limit"),
        (
            "t,x1,y1,x2,y2,width,height\n1,2,3,4,5,640,480\n1,2,3,4,5,304,240\n",
            r"\(height, width\) \(240, 304\) and \(480, 640\), allowed: the same in all images",
        ),
    ],
)
def test_errors(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def sample(tracks=(7, 0, 8)):
    boxes = np.zeros(3, BBOX_dtype)
    boxes["t"], boxes["class_id"], boxes["track_id"] = [50, 50, 2**53 + 1], [5, 1, 5], tracks
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [0.1, -4.7, 5], [1 / 3, 70, 8], [10, 20, 30.3], [15, 25, 35]
    boxes["class_confidence"] = [1, 0.3, 0.7]
    return boxes


def test_round_trip(tmp_path):
    CSV.write(tmp_path / "a.csv", LabelFile(sample(), {1: 'large, "red" bus', 5: "car"}, None, np.array([100])))
    found = CSV.read(tmp_path / "a.csv")
    assert (found.names, found.empty.tolist()) == ({1: 'large, "red" bus', 5: "car"}, [100])
    for name in BBOX_dtype.names:
        assert np.array_equal(found.boxes[name].astype(BBOX_dtype[name]), sample()[name]), name


def test_predictions_are_read_exactly(tmp_path):
    boxes = sample(tracks=0)
    with BOX_FILES[".csv"](tmp_path / "p.csv", Scene({1: "car", 5: "bus"}, 50, 240, 304)) as add:
        add(50, boxes, None)
    found = CSV.read(tmp_path / "p.csv")
    assert found.names == {1: "car", 5: "bus"}
    for name in ("t", "x", "y", "w", "h", "class_id", "class_confidence"):
        assert np.array_equal(found.boxes[name].astype(BBOX_dtype[name]), boxes[name]), name


def test_a_track_id_of_minus_one_is_no_track(tmp_path):
    found = read(tmp_path, "t,x,y,w,h,class_id,track_id\n1,2,3,4,5,0,-1\n2,2,3,4,5,0,7\n")
    assert found.boxes["track_id"].tolist() == [0, 7]


def test_image_size_beside_the_size_of_the_box(tmp_path):
    found = read(tmp_path, "t,x,y,bbox_width,bbox_height,width,height\n1,2,3,4,5,304,240\n")
    assert (found.boxes[["w", "h"]].tolist(), found.image_size) == ([(4, 5)], (240, 304))
