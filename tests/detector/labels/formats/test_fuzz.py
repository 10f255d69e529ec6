"""Damaged label files are refused with a ValueError of one line, or are read. Nothing else is opened, nothing hangs."""

import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from detector.config.extensions import LABEL_FORMATS
from detector.events import BBOX_dtype
from detector.labels.label_format import LabelFile, find_format

TOKENS = [
    *[b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b"0x1", b"1_0", b"", b"null", b"true", b"[]", b"{}", b'"a"', b"\0"],
    *[
        b"\xff",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n\n",
        b"[" * 3000,
        b"<a>" * 3000,
        b"<!DOCTYPE a>",
        b"&b;",
        b"../../x",
        b"-",
        b":",
    ],
]
LONGEST_S = 60.0
OPENED: list[Path] | None = None


def _record(event, arguments):
    if event == "open" and OPENED is not None and isinstance(arguments[0], str | bytes | Path):
        OPENED.append(Path(arguments[0] if not isinstance(arguments[0], bytes) else arguments[0].decode()))


sys.addaudithook(_record)


@contextmanager
def opened_files():
    """Yield the list of the paths that are opened in the block, which grows."""
    global OPENED  # noqa: PLW0603  # an audit hook cannot be removed
    OPENED = []
    try:
        yield OPENED
    finally:
        OPENED = None


def sample():
    boxes = np.zeros(4, BBOX_dtype)
    boxes["t"], boxes["class_id"], boxes["track_id"] = [50, 50, 150, 200], [1, 0, 1, 1], [7, 0, 8, 7]
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [3.5, 40, 5, 6], [6, 70.25, 8, 9], [10, 20, 30, 40], 25
    boxes["class_confidence"] = [1, 0.25, 0.5, 1]
    return LabelFile(boxes, {0: "car", 1: "bus"}, (240, 304), np.array([100]))


def write_sample(name, folder):
    """Write labels, and return the file or folder and the file to damage."""
    format_ = find_format(name)
    path = folder / f"sample{format_.suffix}"
    if name == "fred":
        path.write_text("0.033333: 1.5, 2.0, 11.5, 32.0, 4\n0.066666: 1.5, 3.0, 11.5, 33.0, 4\n")
    elif name == "dsec_det":
        order = ["t", "x", "y", "h", "w", "class_id", "class_confidence", "track_id"]
        boxes = sample().boxes[order]
        np.save(path, np.array(boxes.tolist(), [(name, BBOX_dtype[name]) for name in order]))
    else:
        format_.write(path, sample())
    files = sorted(path.glob("frame_*")) if format_.is_folder else [path]
    return path, files[0]


def damage(data, rng):
    """Change some bytes, cut the end, exchange two lines, or replace tokens."""
    kind, data = rng.integers(4), bytearray(data)
    if kind == 0:
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        return bytes(data)
    if kind == 1:
        return bytes(data[: rng.integers(len(data))])
    lines = bytes(data).splitlines(keepends=True)
    if kind == 2 and len(lines) > 1:
        first, second = rng.integers(0, len(lines), 2)
        lines[first], lines[second] = lines[second], lines[first]
        return b"".join(lines)
    begin = int(rng.integers(len(data)))
    return bytes(data[:begin]) + TOKENS[rng.integers(len(TOKENS))] + bytes(data[begin + int(rng.integers(0, 8)) :])


def check(name, path, folder):
    """Read and recognize a file; return whether it was read."""
    formats = [find_format(other) for other in LABEL_FORMATS]
    begin = time.process_time()
    with opened_files() as opened:
        for format_ in formats:
            if format_.is_folder == path.is_dir():
                assert format_.matches(path) in (True, False)
        try:
            found = find_format(name).read(path)
        except ValueError as error:
            assert 0 < len(str(error)) < 500
            assert "\n" not in str(error)
            found = None
    assert time.process_time() - begin < LONGEST_S
    outside = [file for file in opened if not file.resolve().is_relative_to(folder)]
    outside = [file for file in outside if file.suffix not in (".py", ".pyc")]  # imports, and source lines of warnings
    assert outside == []
    assert found is None or (found.boxes if isinstance(found, LabelFile) else found).dtype.kind in "Vfiu"
    return found is not None


@pytest.mark.parametrize("name", LABEL_FORMATS)
def test_damaged_files(name, tmp_path):
    rng = np.random.default_rng([7, *name.encode()])
    path, file = write_sample(name, tmp_path)
    whole = file.read_bytes()
    assert check(name, path, tmp_path)
    read = 0
    for _ in range(60):
        file.write_bytes(damage(whole, rng))
        read += check(name, path, tmp_path)
    assert 0 < read < 60


@pytest.mark.parametrize("place", ["classes.txt", "data.yaml"])
def test_damaged_class_names(place, tmp_path):
    rng = np.random.default_rng(3)
    path, _ = write_sample("yolo", tmp_path)
    (path / "classes.txt").unlink()
    for _ in range(60):
        (path / place).write_bytes(damage(b"names:\n  0: car\n  1: bus\n  2: &a [b, *a]\n<<: {x: y}\n", rng))
        check("yolo", path, tmp_path)


WRONG = [None, True, 3, -1.5, "a", [], {}, [[]], [{}], 10**30, float("nan")]


def variants(value):
    """Yield copies of JSON content, each with one part replaced by a value of another type."""
    yield from WRONG
    if isinstance(value, dict):
        for key in value:
            yield from ({**value, key: other} for other in variants(value[key]))
            yield {other: value[other] for other in value if other != key}
    elif isinstance(value, list) and value:
        yield from ([other, *value[1:]] for other in variants(value[0]))


def test_wrong_types_in_json(tmp_path):
    path, _ = write_sample("coco", tmp_path)
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "frame_1"
    content["annotations"][0]["attributes"] = {"track_id": 4}
    for variant in (*variants(content), *variants(content["annotations"])):
        path.write_text(json.dumps(variant))
        check("coco", path, tmp_path)


def test_huge_and_hidden_content(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        header = {"descr": BBOX_dtype.descr, "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(file, header)
    assert not check("npy", path, tmp_path)
    (tmp_path / "b.json").write_text('{"images": ' * 50_000)
    assert not check("coco", tmp_path / "b.json", tmp_path)
