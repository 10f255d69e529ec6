import numpy as np
import pytest

from detector.events.headers.header import read_header

RAW_DATA = bytes([0xD0, 0xD8, 0xD9, 0x80])


def header_of(tmp_path, content):
    path = tmp_path / "recording.bin"
    path.write_bytes(content)
    return read_header(path)


@pytest.mark.parametrize(
    ("text", "format", "size"),
    [
        ("% evt 2.0\n% geometry 640x480\n% end\n", "EVT2", (480, 640)),
        ("% format EVT3;height=720;width=1280\n% end\n", "EVT3", (720, 1280)),
        ("% format EVT21;width=4;height=3\n% evt 2.1\n% end\n", "EVT2.1", (3, 4)),
        ("% evt 2.1\n% end\n", "EVT2.1", None),
        ("% evt 4.0\n", "EVT 4.0", None),
        ("% Version 2\n% Height 240\n% Width 304\n", "DAT", (240, 304)),
        ("% Data file containing Event2D events.\r\n% Version 2\r\n", "DAT", None),
        ("% system_ID 21\n% evt 2.0\n", "EVT2", (480, 640)),
        ("% system_ID 30\n% evt 2.0\n", "EVT2", (720, 1280)),
        ("% system_ID 49\n% evt 2.0\n% geometry 384x288\n", "EVT2", (288, 384)),
    ],
)
def test_format_and_sizes(tmp_path, text, format, size):
    header = header_of(tmp_path, text.encode() + RAW_DATA)
    assert header.format == format
    assert header.sensor_size() == size
    assert header.size == len(text)


def test_hdf5_by_its_signature(tmp_path):
    assert header_of(tmp_path, b"\x89HDF\r\n\x1a\n" + bytes(8)).format == "HDF5"


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (b"\x93NUMPY\x01\x00", "NPY"),
        (b"0.5 1 2 -1\n", "CSV"),
        (b"1,2,0,1e-3", "CSV"),
        (b"x,y,polarity,timestamp\r\n", "CSV"),
        (b"# t x y p\n", "CSV"),
    ],
)
def test_tables(tmp_path, content, format):
    assert header_of(tmp_path, content).format == format


def test_data_that_begins_with_a_percent_sign_is_no_header_line(tmp_path):
    text = b"% evt 2.0\n% geometry 640x480\n"
    assert header_of(tmp_path, text + b"% \x00\x80 a\n" + RAW_DATA).size == len(text)
    ended = text + b"% end\n"
    assert header_of(tmp_path, ended + b"% like text\n").size == len(ended)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"\x92NUMPY\x01\x00", "not an event recording"),
        (b"%", "not an"),
        (b"1 2 3\n", "not an"),
        (b"see x, y: more text\n1 2 3 4\n", "not an"),
        (b"\x00 1 2 3", "not an"),
    ],
)
def test_what_is_no_recording(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"recording.bin: {message}"):
        header_of(tmp_path, content)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.raw: no such recording"):
        read_header(tmp_path / "none.raw")
    with pytest.raises(ValueError, match="is a folder, allowed: the file of a recording"):
        read_header(tmp_path)


@pytest.mark.parametrize("note", [b"caf\xe9", b"caf\xc3\xa9", b"\xe0 la carte", b"5\xa0V\t\xb5s"])
def test_text_is_latin_1_or_utf_8(tmp_path, note):
    text = b"% note " + note + b"\n% evt 3.0\n% geometry 640x480\n% end\n"
    header = header_of(tmp_path, text + RAW_DATA)
    assert (header.format, header.size, header.sensor_size()) == ("EVT3", len(text), (480, 640))
    text = b"% Version 2\n% note " + note + b"\n% Height 240\n% Width 304\n"
    header = header_of(tmp_path, text + bytes([12, 8]))
    assert (header.format, header.size, header.sensor_size()) == ("DAT", len(text), (240, 304))


@pytest.mark.parametrize("line", [b"% note " + b"a" * 100_000 + b"\n", b"% note a longer line of text\n" * 5000])
def test_long_headers(tmp_path, line):
    text = line + b"% evt 2.0\n% geometry 640x480\n% end\n"
    header = header_of(tmp_path, text + RAW_DATA)
    assert (header.format, header.size, header.sensor_size()) == ("EVT2", len(text), (480, 640))


@pytest.mark.parametrize(
    "data", [b"%\xe9\xe8\xe7\xe6 a\n", b"% a\x00b\n", b"%!\n", b"%ab\n", b"%\xc1\xc2\xc3\xc4\xc5\xc6\n"]
)
def test_data_that_begins_with_the_byte_of_a_percent_sign(tmp_path, data):
    text = b"% evt 2.0\n% geometry 640x480\n"
    assert header_of(tmp_path, text + data + b"% evt 3.0\n").size == len(text)


def test_signatures_of_hdf5_and_npz(tmp_path):
    assert header_of(tmp_path, bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(8)).format == "HDF5"
    with (tmp_path / "a").open("wb") as file:
        np.savez(file, x=np.zeros(3))
    assert header_of(tmp_path, (tmp_path / "a").read_bytes()).format == "NPZ"
    assert header_of(tmp_path, (tmp_path / "a").read_bytes()[:60]).format == "NPZ"


@pytest.mark.parametrize("comment", [b"%geometry:640,480\n", b"% Version 2\n", b"# x\n", b"\n% caf\xe9\n"])
def test_comments_before_a_table(tmp_path, comment):
    assert header_of(tmp_path, comment + b"1,2,0,3\n").format == "CSV"
    assert header_of(tmp_path, comment + b"x,y,p,t\n").format == "CSV"
