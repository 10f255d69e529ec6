import numpy as np
import pytest

from detector.labels.formats.reading import (
    HEAD,
    SPLIT,
    find_files,
    first_heads,
    image_files,
    image_number,
    image_numbers,
    image_size,
    images_without_boxes,
    indexed_names,
    make_boxes,
    number,
    number_names,
    one_recording,
    only_value,
    read_head,
    read_lines,
    read_text,
)


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfa\nb", "a\nb"),
        (b"a\0b", ""),
        (b"\xffa", "\ufffda"),
        (b"a" * (HEAD - 4) + b"\nbcd" + b"e", "a" * (HEAD - 4)),  # the last line may be incomplete
        (b"a" * (HEAD + 7), "a" * HEAD),
        (b"a\nbc", "a\nbc"),
    ],
)
def test_the_beginning_of_a_file(tmp_path, data, text):
    (tmp_path / "a").write_bytes(data)
    assert read_head(tmp_path / "a") == text


def test_files_that_cannot_be_read_have_no_beginning(tmp_path):
    assert read_head(tmp_path) == read_head(tmp_path / "none") == ""


def test_a_text_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffgrün".encode())
    assert read_text(path) == read_text(path, 8) == "grün"  # three bytes of the mark and five of the text
    for data, limit, message in (
        (b"12345678", 7, "a.txt is larger than 7 bytes"),
        (b"ab\xff", None, "a.txt: byte 2 is not UTF-8, allowed: a text file in UTF-8"),
        (b"ab\0c", None, "a.txt contains NUL bytes, allowed: a text file in UTF-8"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"^{message}$"):
            read_text(path, limit)


def test_lines_have_their_numbers_and_no_blanks():
    assert list(read_lines(" a b\r\n\r\n\tc\r \rd")) == [("line 1", "a b"), ("line 3", "c"), ("line 5", "d")]


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), (" -12 ", -12), ("+3", 3), ("1.50", 1.5), (".5", 0.5), ("2.", 2.0), ("-1e3", -1000.0), ("inf", np.inf)],
)
def test_numbers(text, value):
    found = number(text, "line 1")
    assert (found, type(found)) == (value, type(value))


def test_long_integers_become_floats():
    assert number("9" * 19, "line 1") == 10**19 - 1
    assert isinstance(number("9" * 20, "line 1"), float)
    assert np.isnan(number("NaN", "line 1"))


@pytest.mark.parametrize("text", ["", "1_0", "0x1", "1,5", "½", "١", "1 2", "e3", "a" * 99])
def test_texts_that_are_no_numbers(text):
    with pytest.raises(ValueError, match=rf"^line 4: got {text[:60]!r}, allowed: a number$"):
        number(text, "line 4")


def test_boxes_of_columns():
    boxes = make_boxes({"t": [5, 7], "x": [1, 2.5], "w": [3, 4]})
    assert boxes.dtype == [("t", "<i8"), ("x", "<f8"), ("w", "<i8")]
    assert boxes.tolist() == [(5, 1.0, 3), (7, 2.5, 4)]
    assert make_boxes({"t": [], "x": []}).dtype == [("t", "<i8"), ("x", "<i8")]
    assert make_boxes({"t": [2**63]})["t"].dtype == np.float64
    with pytest.raises(ValueError, match="a number is too large, allowed: numbers of 64 bits"):
        make_boxes({"t": [10**400]})


def test_images_without_boxes():
    assert images_without_boxes([9, 3, 5, 3], make_boxes({"t": [5, 7]})).tolist() == [3, 9]
    assert images_without_boxes([9, 3, 3], make_boxes({"t": []})).tolist() == [3, 9]
    assert images_without_boxes([], make_boxes({"t": [5]})).tolist() == []


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("frames/frame_000012.png", 12),
        ("a\\b\\cam2_00031.jpeg", 31),
        ("7/frame_5", 5),
        ("frame_000012_png.rf.0a1b2c3d4e5f.txt", 12),
        ("0008.v2.txt", 2),
        ("take3.mp4", 3),
    ],
)
def test_the_number_of_an_image(name, image):
    assert image_number(name) == image


@pytest.mark.parametrize("name", ["7/frame.png", "frame.mp4", "frame_" + "1" * 19 + ".png", ""])
def test_names_without_a_number(name):
    with pytest.raises(ValueError, match="does not contain an image number, needed: a name such as frame_000012"):
        image_number(name)


def test_each_number_is_of_one_name():
    assert image_numbers(["a_3.png", "a_1.png", "a_3.png"]) == [3, 1, 3]
    with pytest.raises(ValueError, match=r"^a_3.png and b_3.png both have the image number 3, allowed: images of one"):
        image_numbers(["a_3.png", "a_1.png", "b_3.png"])


def test_files_of_a_folder_and_its_subfolders(tmp_path):
    write(tmp_path, "a_1.txt", "B_2.TXT", "c_3.xml", ".d_4.txt", "ReadMe.txt", "classes.txt", "sub/e_5.txt")
    write(tmp_path, "sub/classes.txt")
    (tmp_path / "f_6.txt").mkdir()
    write(tmp_path, "f_6.txt/g_7.txt")
    (tmp_path / "sub" / "deep").mkdir()
    write(tmp_path / "sub", "deep/h_8.txt")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path, ".txt", {"classes.txt"}))
    assert found == ["B_2.TXT", "a_1.txt", "f_6.txt/g_7.txt", "sub/e_5.txt"]
    assert len(list(find_files(tmp_path, ".txt"))) == 6


def test_the_beginnings_of_some_files(tmp_path):
    write(tmp_path, *(f"{index}.txt" for index in range(9)), "a.xml")
    heads = first_heads(tmp_path, ".txt")
    assert len(heads) == 8 and all(path.name == text for path, text in heads.items())
    assert len(first_heads(tmp_path, ".txt", count=3)) == 3
    assert first_heads(tmp_path / "none", ".txt") == {}


def test_files_by_image_number(tmp_path):
    write(tmp_path, "train/a_12.txt", "val/a_3.txt", "a_7.txt")
    found = image_files(tmp_path, ".txt")
    assert list(found.items()) == [
        (3, tmp_path / "val" / "a_3.txt"),
        (7, tmp_path / "a_7.txt"),
        (12, tmp_path / "train" / "a_12.txt"),
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the folder contains no .txt files of images"),
        (["a_3.txt", "b_3.txt"], "a_3.txt and b_3.txt both have the image number 3, allowed: one file per image"),
        (["x/a_3.txt", "y/a_3.txt"], "x/a_3.txt and y/a_3.txt both have .* 3, allowed: the labels of one recording"),
        (["x/a_3.txt", "y/a_4.txt"], "labels of several recordings, folder x and folder y, allowed: one"),
        (["train/a_3.txt", "Training/a_4.txt"], "labels of several recordings, folder Training and folder train"),
        (["train/a_3.txt", "y/a_4.txt"], "labels of several recordings, folder train and folder y"),
        (["a.txt"], "'a.txt' does not contain an image number"),
    ],
)
def test_folders_that_are_not_of_one_recording(tmp_path, names, message):
    write(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        image_files(tmp_path, ".txt")


def test_one_folder_of_any_name_is_of_one_recording(tmp_path):
    write(tmp_path, "street/a_3.txt", "street/a_4.txt")
    assert list(image_files(tmp_path, ".txt")) == [3, 4]


@pytest.mark.parametrize(
    ("name", "split"),
    [("obj_train_data", "train"), ("valid", "val"), ("TEST", "TEST"), ("validation2", "val"), ("contest", None)],
)
def test_names_of_splits(name, split):
    found = SPLIT.search(name)
    assert (found and found[1]) == split


def test_class_names_are_numbered_in_alphabetical_order():
    assert number_names(["car", "bus", "car", "van"]) == ({0: "bus", 1: "car", 2: "van"}, [1, 0, 1, 2])
    assert number_names([]) == ({}, [])


def test_names_by_line(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"\r\n car \n\nbus\r")
    assert indexed_names(tmp_path / "classes.txt") == {1: "car", 3: "bus"}
    (tmp_path / "classes.txt").write_bytes(b"a" * (2**18 + 1))
    with pytest.raises(ValueError, match="classes.txt is larger than 262144 bytes"):
        indexed_names(tmp_path / "classes.txt")


def test_the_size_of_an_image():
    found = image_size(1.0, 65536, "line 1")
    assert found == (1, 65536) and [type(side) for side in found] == [int, int]
    for height, width in ((0, 5), (5, 65537), (2.5, 5), (5, float("nan")), (5, -1)):
        message = rf"^line 1: got the image size {height} x {width}, allowed: whole numbers from 1 to 65536$"
        with pytest.raises(ValueError, match=message):
            image_size(height, width, "line 1")


def test_images_of_one_recording():
    one_recording([], "video")
    one_recording([3, "3"], "video")
    with pytest.raises(ValueError, match=r"recordings, video 1 and video 2, allowed: one; split them into one file"):
        one_recording([3, 2, 1], "video")


def test_a_value_that_all_images_share():
    assert only_value(set(), "sizes") is None
    assert only_value({7}, "sizes") == 7
    with pytest.raises(ValueError, match="^sizes 2 and 5, allowed: the same in all images$"):
        only_value({9, 5, 2}, "sizes")
