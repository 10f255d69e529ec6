import re

import pytest

from detector.events import open_events
from detector.events.headers.header import read_header


@pytest.mark.parametrize(
    ("content", "what", "advice"),
    [
        (b"#!AER-DAT1.0\r\n", "an AEDAT 1 recording", "convert it, for example with evlib"),
        (b"#!AER-DAT2.0\r\n1,2,3,4\n", "an AEDAT 2 recording", "convert it, for example with evlib"),
        (b"#!AER-DAT3.1\r\n#End Of ASCII Header\r\n", "an AEDAT 3 recording", "convert it, for example with evlib"),
        (b"#ROSBAG V2.0\n", "a ROS 1 bag", "rosbags"),
        (b"\x89MCAP0\r\n", "an MCAP file", "rosbags"),
        (b"SQLite format 3\0", "an SQLite database", "rosbags"),
        (b"Event Stream\x02", "an Event Stream recording", "faery"),
        (b"PK\x03\x04" + bytes(30), "a zip archive without NPY arrays", "unpack it first"),
        (b"\x1f\x8b\x08", "a gzip file", "decompress it first"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image", "name a reader"),
        (b"\xff\xd8\xff\xe0", "a JPEG image", "name a reader"),
        (b"\0\0\0\x20ftypisom", "an MP4 video", "name a reader"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI video", "name a reader"),
        (b"%PDF-1.4\n", "a PDF document", "name a reader"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        (b"\xff\xfex\0,\0", "text in UTF-16", "save it as UTF-8"),
        (b"some text\nmore", "text that begins with 'some text'", "at least four columns"),
        (b"<html> <a x=1, y=2>\n", "text that begins with '<html> <a x=1, y=2>'", "at least four columns"),
        (bytes(100), "a file of zero bytes", "get the file again"),
        (b"\x01\x02\x03", r"binary data that begins with b'\x01\x02\x03'", "name a reader"),
    ],
)
def test_what_a_file_looks_like(tmp_path, content, what, advice):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a: not an event recording; it looks like .*; readable: DAT, EVT2, .*NPZ"
    ) as caught:
        open_events(tmp_path / "a")
    text = str(caught.value)
    assert f"it looks like {what}" in text and advice in text and "\n" not in text
    assert text.endswith("name a reader of your own with --data.event_format mylab.formats:read")


def test_names_are_a_last_hint(tmp_path):
    for name, size, message in (
        ("a.bin", 10, "it may be an N-MNIST recording"),
        ("a.bin", 11, "binary data that begins with"),
        ("a.raw", 8, "binary data without a RAW header; .* give its encoding with --data.event_format EVT2, EVT2.1 or"),
    ):
        (tmp_path / name).write_bytes(b"\x01\xff" + bytes(size - 2))
        with pytest.raises(ValueError, match=f"{re.escape(name)}: not an event recording; it looks like .*{message}"):
            read_header(tmp_path / name)


def test_empty_files_and_text_after_comments(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(ValueError, match="a: empty file, not an event recording; get the file again; readable: DAT"):
        read_header(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"% Version 2\nand text\n")
    with pytest.raises(
        ValueError, match=r"a: not a DAT or RAW recording: event type .*\(97, 110\).*; it looks like text"
    ):
        open_events(tmp_path / "a")
