import pytest

from detector.events.headers.table_header import read_table_header, split_line


def header_of(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    return read_table_header(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "names", "size", "begin", "row"),
    [
        (b"1,2,3,4\n", None, None, 0, ("1", "2", "3", "4")),
        (b"%geometry:640,480\n1,2,3,4\n", None, (480, 640), 18, ("1", "2", "3", "4")),
        (b"# x y t p\n\n1 2 3 4\n", ("x", "y", "t", "p"), None, 11, ("1", "2", "3", "4")),
        (b"# x y t p q\n1 2 3 4\n", None, None, 12, ("1", "2", "3", "4")),
        (b"# x y t p\nt,x,y,p\n", ("t", "x", "y", "p"), None, 18, ()),
        (b"\xef\xbb\xbft,x@4,y@3,on\n1;2;3;True\n", ("t", "x@4", "y@3", "on"), (3, 4), 16, ("1", "2", "3", "True")),
        (b"# height 3\n% WIDTH: 4\n1\t2\t3\t4\n", None, (3, 4), 22, ("1", "2", "3", "4")),
        (b"%geometry:4,3", None, (3, 4), 13, ()),
    ],
)
def test_beginnings_of_tables(tmp_path, content, names, size, begin, row):
    header = header_of(tmp_path, content)
    assert (header.names, header.sensor_size, header.size, header.row) == (names, size, begin, row)


@pytest.mark.parametrize(
    "content",
    [
        b"1,2,3\n",
        b"% Version 2\n",
        b"% geometry 640x480\n",
        b"% Version 2\n\x0c\x08\x01\x02",
        b"see x, y: more text\n1 2 3 4\n",
        b"a,b\nc,d\n1,2,3,4\n",
        b"# x\n\0 1 2 3 4\n",
        b"# x\n" + b"1" * 70_000,
    ],
)
def test_what_is_no_table(tmp_path, content):
    assert header_of(tmp_path, content) is None


def test_entries():
    assert split_line(' "a" ; b;;\n') == ("a", "b")
    assert split_line("1 2\t3") == ("1 2", "3")
    assert split_line("1  2 ") == ("1", "2")
