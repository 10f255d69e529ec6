"""`evforge labels convert`, and builds from the formats that it writes."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from small_recordings import DELTA_T, make_labels, make_recording

from detector.config.groups import DataConfig
from detector.inference.writers import BOX_FILES, Scene
from detector.labels import detect_format, load_labels, read_labels, save_labels
from evforge.cli.main import main
from evforge.datasets.labels import convert

TIMES = (1_300_000, 1_300_000, 2_000_000, 2_500_000)
NAMES = '{"0": "walker", "3": "car", "4": "empty"}'


@pytest.fixture
def given(tmp_path):
    """A recording without labels beside it, and its labels elsewhere: four boxes at three times, one without boxes."""
    recording = make_recording(tmp_path / "in" / "train", times=[])
    (tmp_path / "in" / "train" / "street_bbox.npy").unlink()
    labels = make_labels([*TIMES, 2_800_000])
    labels["x"], labels["y"] = [1, 5, 2, 4, 0], [3, 1, 0.5, 2, 0]
    labels["w"], labels["h"] = [2, 3, 4, 5, 0], [4, 2, 3, 1, 0]
    labels["class_id"] = [0, 3, 3, 0, 4]
    labels["track_id"] = [1, 2, 2, 1, 0]
    save_labels(tmp_path / "given_bbox.npy", labels)
    (tmp_path / "label_map_dictionary.json").write_text(NAMES)
    return recording


def build(recording, output, *arguments):
    return main(["build", str(recording), "--output", str(output), f"--data.delta_t={DELTA_T}", *arguments])


@pytest.mark.parametrize(
    ("label_format", "name"),
    [
        ("npy", "street_bbox.npy"),
        ("coco", "street.json"),
        ("yolo", "street_labels"),
        ("voc", "street_voc"),
        ("mot", "street_gt.txt"),
        ("csv", "street_bbox.csv"),
    ],
)
def test_a_build_from_converted_labels_is_the_same(tmp_path, given, capsys, label_format, name):
    source, target = tmp_path / "given_bbox.npy", given.parent / name
    arguments = ["--to", label_format, "--recording", str(given)]
    assert main(["labels", "convert", str(source), str(target), *arguments]) == 0
    assert f"written: {target}, 4 boxes at 4 times" in capsys.readouterr().out
    names = ["--label_map", NAMES] if label_format == "npy" else []  # other files contain the names
    assert build(given, tmp_path / "out", *names) == 0
    assert f"labels in the format {label_format}: {target}\n" in capsys.readouterr().err
    names = json.loads((tmp_path / "out" / "label_map_dictionary.json").read_text())
    found, wanted = load_labels(tmp_path / "out" / "train" / "street_bbox.npy"), load_labels(source)
    assert [names[str(key)] for key in found["class_id"]] == ["walker", "car", "car", "walker", "empty"]
    fields = ["t", "x", "y", "w", "h"] + ["track_id"] * (label_format not in ("yolo", "voc"))
    for field in fields:
        np.testing.assert_array_equal(found[field], wanted[field], field)


@pytest.mark.parametrize(
    ("name", "label_format", "file"), [("a_labels", "yolo", "classes.txt"), ("A_voc", "voc", "frame_000000.xml")]
)
def test_formats_of_folders_are_found_from_their_names(tmp_path, given, name, label_format, file):
    source, target = str(tmp_path / "given_bbox.npy"), tmp_path / name
    assert main(["labels", "convert", source, str(target), "--recording", str(given)]) == 0
    assert detect_format(target) == label_format
    assert (target / file).is_file()


def test_existing_targets_are_not_replaced(tmp_path, given, capsys):
    source, target = str(tmp_path / "given_bbox.npy"), tmp_path / "a.csv"
    target.write_text("mine")
    assert main(["labels", "convert", source, str(target)]) == 2
    assert f"{target}: would be replaced, allowed: another target, or --overwrite\n" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert main(["labels", "convert", source, str(target), "--overwrite"]) == 0
    (tmp_path / "a.csv.frames.json").write_text('{"first_t": 0, "delta_t": 7, "num_frames": 3}')
    done = convert(source, str(target), DataConfig(), overwrite=True)
    assert done.times == np.unique(read_labels(target).boxes["t"]).size + read_labels(target).empty.size
    folder = tmp_path / "a_labels"
    folder.mkdir()
    (folder / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"a_labels: this folder exists, allowed: another target; folders are not"):
        convert(source, str(folder), DataConfig(), recording=str(given), overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_class_ids_are_kept(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("1,1,5,6,7,8,1,7,1\n2,1,5,6,7,8,1,3,1\n")
    for label_format, chain in (("csv", ["a.txt", "b.csv", "b.txt"]), ("coco", ["a.txt", "c.json", "c.txt"])):
        for source, target in itertools.pairwise(chain):
            arguments = [f"{tmp_path}/{source}", f"{tmp_path}/{target}", "--label_fps", "10"]
            assert main(["labels", "convert", *arguments]) == 0
        rows = [line.split(",")[7] for line in (tmp_path / chain[-1]).read_text().splitlines()]
        assert rows == ["7", "3"], label_format
        text = capsys.readouterr().out
        assert "counts classes from 1" not in text
        assert text.count("class ids without names: 3, 7; give names by --label_map\n") == 2 - (label_format == "coco")
    (tmp_path / "labels.txt").write_text("\n\ndog\n\n\n\nhorse\n")
    for source, target in (("a.txt", "d.csv"), ("d.csv", "d.txt")):
        assert main(["labels", "convert", f"{tmp_path}/{source}", f"{tmp_path}/{target}", "--label_fps", "10"]) == 0
        assert "class 1 of the MOT file is the class id 0\n" in capsys.readouterr().out
    assert [line.split(",")[7] for line in (tmp_path / "d.txt").read_text().splitlines()] == ["7", "3"]
    assert (tmp_path / "d_labels.txt").read_text() == "\n\ndog\n\n\n\nhorse\n"


def test_frames_without_detections_are_kept(tmp_path):
    scene = Scene({0: "walker", 3: "car"}, 50_000, 48, 64)
    for name in ("p.npy", "p.csv", "p.json"):
        with BOX_FILES[Path(name).suffix](tmp_path / name, scene) as add:
            for end, count in ((1_050_000, 0), (1_100_000, 2), (1_150_000, 0)):
                boxes = make_labels([end] * count)
                boxes["class_id"] = 3
                add(end, boxes, np.zeros((1, 2, 48, 64), np.uint8))
        done = convert(str(tmp_path / name), f"{tmp_path}/{name}.csv", DataConfig())
        assert (done.boxes, done.times) == (2, 3), name
        assert read_labels(f"{tmp_path}/{name}.csv").empty.tolist() == [1_050_000, 1_150_000], name


def test_labels_with_image_numbers(tmp_path, given, capsys):
    source, target = tmp_path / "given_bbox.npy", given.parent / "street_labels"
    assert main(["labels", "convert", str(source), str(target), "--to", "yolo", "--recording", str(given)]) == 0
    (target / "timestamps.txt").unlink()
    assert build(given, tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "image numbers and no times, needed: the time of each image; give --label_fps N" in error
    assert build(given, tmp_path / "out", "--label_fps", "10", "--label_offset", "50000") == 0
    assert f"{target}: image 0 is at 1200000 us, 10 images per second\n" in capsys.readouterr().err
    times = load_labels(tmp_path / "out" / "train" / "street_bbox.npy")["t"]
    assert times.tolist() == [1_250_000, 1_250_000, 1_350_000, 1_450_000, 1_550_000]


def test_labels_elsewhere(tmp_path, given, capsys):
    assert build(given, tmp_path / "out") == 2
    assert "the recording has no labels beside it, allowed: street_bbox.npy, " in capsys.readouterr().err
    arguments = ["--labels", f"{tmp_path}/given_bbox.npy", "--label_map", NAMES]
    assert build(given, tmp_path / "out", *arguments) == 0
    assert load_labels(tmp_path / "out" / "train" / "street_bbox.npy").size == 5
    other = make_recording(tmp_path / "in" / "val", "other_td.dat")
    assert main(["build", str(given), str(other), "--output", f"{tmp_path}/out", *arguments]) == 2
    assert "--labels: got" in capsys.readouterr().err


def test_other_labels_are_named(tmp_path, given, capsys):
    source = str(tmp_path / "given_bbox.npy")
    for name in ("street.json", "street_bbox.csv"):
        assert main(["labels", "convert", source, str(given.parent / name), "--recording", str(given)]) == 0
    capsys.readouterr()
    assert build(given, tmp_path / "out") == 0
    assert "street.json: not used: street_bbox.csv; select one by --labels PATH\n" in capsys.readouterr().err


def test_what_cannot_be_converted(tmp_path, given, capsys):
    source = str(tmp_path / "given_bbox.npy")
    for target, arguments, message in (
        (
            "a.bin",
            [],
            "a.bin: the name does not determine a label format, allowed: names that end in .npy (npy), .json (coco)",
        ),
        ("a.bin", ["--to", "fred"], "--to: got fred, which is only read, allowed: npy, coco, yolo"),
        ("a.bin", ["--to", "kitti"], "data.label_format: got 'kitti', allowed: auto, npy"),
        ("given_bbox.npy", [], "source and target are the same"),
    ):
        assert main(["labels", "convert", source, f"{tmp_path}/{target}", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["labels", "convert", f"{tmp_path}/none.json", f"{tmp_path}/a.npy"]) == 2
    assert "none.json: no such label file" in capsys.readouterr().err


def test_what_a_conversion_loses_is_said(tmp_path, given, capsys):
    source = str(tmp_path / "given_bbox.npy")
    arguments = ["--to", "yolo", "--recording", str(given)]
    assert main(["labels", "convert", source, f"{tmp_path}/yolo", *arguments]) == 0
    assert "the format does not store track ids\n" in capsys.readouterr().out
    assert main(["labels", "convert", source, f"{tmp_path}/a.csv"]) == 0
    assert "the format does not store" not in capsys.readouterr().out
    assert main(["labels", "convert", source, str(given), "--to", "csv", "--recording", str(given)]) == 2
    assert "the recording would be lost" in capsys.readouterr().err
    assert main(["labels", "convert", source, f"{tmp_path}/a.npy"]) == 0
    text = capsys.readouterr().out
    assert '1 rows of class "empty" (id 4) stand for the labelled images without boxes\n' in text
    assert "does not store class names; put the classes below into label_map_dictionary.json\n" in text
    (tmp_path / "b_timestamps.txt").write_text("1\n")
    assert main(["labels", "convert", source, f"{tmp_path}/b.txt"]) == 2
    assert "b_timestamps.txt: would be replaced" in capsys.readouterr().err


def test_classes_without_names_and_images_without_boxes(tmp_path, given):
    folder = tmp_path / "yolo"
    folder.mkdir()
    (folder / "000000.txt").write_text("0 0.5 0.5 0.25 0.25\n1 0.25 0.25 0.125 0.125\n")
    (folder / "000001.txt").touch()
    arguments = ["--recording", str(given), "--label_fps", "10", "--data.label_format", "yolo"]
    assert main(["labels", "convert", str(folder), f"{tmp_path}/a.csv", *arguments]) == 0
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 4  # the header, two boxes, and the image without boxes
