import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels.formats.voc import VOC
from detector.labels.label_format import LabelFile

OBJECT = (
    "<object><name>{0}</name><difficult>{1}</difficult><part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
    "<bndbox><xmax>{4}</xmax><ymax>{5}</ymax><xmin>{2}</xmin><ymin>{3}</ymin></bndbox></object>"
)


def xml(*objects, size="<size><width>304</width><height>240</height><depth>3</depth></size>"):
    content = size + "".join(OBJECT.format(*values) for values in objects)
    return f"<?xml version='1.0' encoding='gbk'?>\n<annotation>{content}</annotation>"


def fill(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.xml").write_text(text)
    return folder


def test_files_of_labelimg(tmp_path):
    first = xml(("person", 0, 1.5, 20, 31.5, 24), ("car", 1, 3, 4, 10, 20))
    found = VOC.read(fill(tmp_path, rec_12=first, rec_7=xml(("person", "Unspecified", 5, 6, 8, 10)), rec_9=xml()))
    assert found.names == {0: "car", 1: "person"}
    assert found.boxes.dtype.names == ("t", "x", "y", "w", "h", "class_id")
    assert found.boxes.tolist() == [(7, 5, 6, 3, 4, 1), (12, 1.5, 20, 30, 4, 1), (12, 3, 4, 7, 16, 0)]
    assert (found.image_size, found.numbered, found.empty.tolist()) == ((240, 304), True, [9])
    assert found.notes == ("2 boxes are marked as difficult; they are used",)


def test_sizes_may_be_unknown(tmp_path):
    unknown = xml(size="<size><width>0</width><height>0</height></size>")
    assert VOC.read(fill(tmp_path, a_1=xml(size=""), a_2=unknown)).image_size is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", r"a_1.xml is not a complete XML file: no element found"),
        ("<annotations/>", r"a_1.xml begins with <annotations>, allowed: <annotation> of Pascal VOC"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", r"a_1.xml contains a DOCTYPE or ENTITY, allowed: XML files"),
        ("<annotation><object><name>a</name></object></annotation>", r"a_1.xml: an object has no <xmin>, needed"),
        (xml(("", 0, 1, 2, 3, 4)), r"a_1.xml: an object has no <name>, needed: name and bndbox"),
        (xml(("car", 0, 1, "two", 3, 4)), r"a_1.xml: ymin: got 'two', allowed: a number"),
        (xml(size="<size><width>-3</width><height>2</height></size>"), r"a_1.xml: got the image size 2 x -3, allowed"),
        (xml(size="<size><width>3.5</width><height>2</height></size>"), r"image size 2 x 3.5, allowed: whole numbers"),
        (xml(size="<size><width>70000</width><height>2</height></size>"), r"2 x 70000, allowed: .* from 1 to 65536"),
        ("<annotation>" + " " * 2**22, r"a_1.xml is larger than 4194304 bytes"),
    ],
)
def test_errors(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        VOC.read(fill(tmp_path, a_1=text))


def test_errors_of_folders(tmp_path):
    with pytest.raises(ValueError, match=r"the folder contains no .xml files of images"):
        VOC.read(tmp_path)
    fill(tmp_path, a_1=xml(), a_2=xml(size="<size><width>640</width><height>480</height></size>"))
    with pytest.raises(ValueError, match=r"\(height, width\) \(240, 304\) and \(480, 640\), allowed: the same"):
        VOC.read(tmp_path)


def test_entities_that_an_encoding_hides_are_not_expanded(tmp_path):
    text = "<?xml version='1.0' encoding='cp037'?><!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>"
    (tmp_path / "a_1.xml").write_bytes(text.encode("cp037"))
    with pytest.raises(ValueError, match=r"a_1.xml"):
        VOC.read(tmp_path)


def test_round_trip(tmp_path):
    boxes = np.zeros(3, BBOX_dtype)
    boxes["t"], boxes["class_id"], boxes["class_confidence"] = [150, 50, 50], [4, 2, 4], 1
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [5, 0.1, -4.7], [8, 1 / 3, 70], [30.3, 10, 20], [35, 15, 25]
    VOC.write(tmp_path / "a", LabelFile(boxes, {2: "a & <b>", 4: "bus"}, (240, 304), np.array([100])))
    assert VOC.matches(tmp_path / "a")
    assert (tmp_path / "a" / "timestamps.txt").read_text() == "50\n100\n150\n"
    found = VOC.read(tmp_path / "a")
    assert (found.names, found.image_size, found.empty.tolist()) == ({0: "a & <b>", 1: "bus"}, (240, 304), [1])
    expected = boxes[[1, 2, 0]]
    assert found.boxes["t"].tolist() == [0, 0, 2]
    assert found.boxes["class_id"].tolist() == [0, 1, 1]
    for name in "xywh":
        assert np.array_equal(found.boxes[name].astype("f4"), expected[name]), name
    with pytest.raises(ValueError, match=r"the class id 4 has no name, needed: the names of all classes"):
        VOC.write(tmp_path / "b", LabelFile(boxes))
    assert not (tmp_path / "b").exists()


def test_a_file_of_blanks_is_read_in_linear_time(tmp_path):
    (tmp_path / "1.xml").write_text(f"<annotation>{' ' * 1_000_000}</annotation>")
    assert VOC.read(tmp_path).empty.tolist() == [1]


def test_folders_of_several_recordings(tmp_path):
    fill(tmp_path / "train", a_1=xml())
    fill(tmp_path / "valid", a_2=xml())
    assert VOC.read(tmp_path).empty.tolist() == [1, 2]  # the splits of one recording
    fill(tmp_path / "train_2", a_5=xml())
    with pytest.raises(ValueError, match="several recordings, folder train and folder train_2, allowed: one; split"):
        VOC.read(tmp_path)


def test_no_labels_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="there are no labels to write, needed: at least one box or one image"):
        VOC.write(tmp_path / "a", LabelFile(np.zeros(0, BBOX_dtype)))
    assert list(tmp_path.iterdir()) == []
