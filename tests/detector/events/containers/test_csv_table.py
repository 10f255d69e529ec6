import numpy as np
import pytest

from detector.events import EventCD, Faults, open_events

HEIGHT, WIDTH = 240, 320
EVENTS = np.array([(96, 133, 0, 3811), (5, 6, 1, 3811), (7, 200, 0, 3900), (300, 9, 1, 70_000)], EventCD)


def read(path, **sizes):
    with open_events(path, **{"height": HEIGHT, "width": WIDTH, **sizes}) as reader:
        return reader.read()


def write_text(tmp_path, text):
    (tmp_path / "a.dat").write_text(text)
    return tmp_path / "a.dat"


@pytest.mark.parametrize(
    "text",
    [
        "0.003811000 96 133 0\n0.003811000 5 6 1\n0.003900000 7 200 0\n0.070000000 300 9 1\n",
        "3811 96 133 0\n3811 5 6 1\n3900 7 200 0\n70000 300 9 1\n",
        "96,133,0,3811\n5,6,1,3811\n7,200,0,3900\n300,9,1,70000",
        "96, 133, -1, 3811\r\n5, 6, 1, 3811\r\n\r\n# a comment\r\n7, 200, -1, 3900\r\n300, 9, 1, 70000\r\n",
        "x,y,p,t\n96,133,0,3811\n5,6,1,3811\n7,200,0,3900\n300,9,1,70000\n",
        "# t x y p\n3811 96 133 0\n3811 5 6 1\n3900 7 200 0\n70000 300 9 1\n",
        "\ufeffID;Timestamp;Polarity;Y;X\n1;3811;0;133;96\n2;3811;1;6;5\n3;3900;0;200;7\n4;70000;1;9;300\n",
        "y\tx\tpol\tts\n133\t96\t0\t0.003811\n6\t5\t1\t0.003811\n200\t7\t0\t0.0039\n9\t300\t1\t0.07\n",
        "96,133,3811,0\n5,6,3811,1\n7,200,3900,0\n300,9,70000,1\n",
        "96,133,0.003811,0\n5,6,0.003811,1\n7,200,0.0039,0\n300,9,0.07,1\n",
        '"x","y","p","t"\n"96","133","0","3811"\n"5","6","1","3811"\n"7","200","0","3900"\n"300","9","1","70000"\n',
        "'x';'y';'p';'t'\n'96';'133';'0';'3811'\n'5';'6';'1';'3811'\n'7';'200';'0';'3900'\n'300';'9';'1';'70000'\n",
        "3811,96,133,False\n3811,5,6,True\n3900,7,200,FALSE\n70000,300,9,true\n",
        "on,ts,x,y\nfalse,3811,96,133\nTRUE,3811,5,6\nFalse,3900,7,200\nTrue,70000,300,9\n",
        "96 , 133 , 0 , 3811,\n5 , 6 , 1 , 3811,\n7 , 200 , 0 , 3900,\n300 , 9 , 1 , 70000,\n",
        "t_ns,x,y,p\n3811000,96,133,0\n3811400,5,6,1\n3899900,7,200,0\n70000000,300,9,1\n",
        "T [ms],X [px],Y [px],Pol\n3.811,96,133,0\n3.811,5,6,1\n3.9,7,200,0\n70,300,9,1\n",
        "time (us);x;y;p\n3811.0;96;133;0\n3811.0;5;6;1\n3900.0;7;200;0\n70000.0;300;9;1\n",
        "# columns: x, y, t, p\n96,133,3811,0\n5,6,3811,1\n7,200,3900,0\n300,9,70000,1\n",
        "\n# a\n\n% b\n x,y,p,t\n# c\n96,133,0,3811\n5,6,1,3811\n7,200,0,3900\n300,9,1,70000\n",
    ],
)
def test_text_in_all_forms(tmp_path, text):
    assert np.array_equal(read(write_text(tmp_path, text)), EVENTS)


def test_whole_seconds_have_a_decimal_point(tmp_path):
    assert read(write_text(tmp_path, "1.0 96 133 0\n2.0 5 6 1\n"))["t"].tolist() == [1_000_000, 2_000_000]
    assert read(write_text(tmp_path, "1.0 96.0 133.0 0.0\n2.0 5.0 6.0 1.0\n"))["t"].tolist() == [1, 2]
    assert read(write_text(tmp_path, "0 96 133 0\n0.5 5 6 1\n"))["t"].tolist() == [0, 500_000]


def test_zero_events(tmp_path):
    for text in ("t,x,y,p\n", "%geometry:320,240\n", "# t x y p\n"):
        with open_events(write_text(tmp_path, text), HEIGHT, WIDTH) as reader:
            assert reader.first_t is None and reader.last_t is None and reader.read().size == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "5 0 1 1\n6 1 1 0\n",
            "values fit more than one order: t,x,y,p or x,y,t,p; give .*--data.event_columns t,x,y,p",
        ),
        ("5 7 9 8\n", "values fit none of the orders t,x,y,p or x,y,p,t or x,y,t,p .*--data.event_columns t,x,y,p"),
        ("1 2 3 4 5\n", "5 columns without names, allowed: 4"),
        ("x,y,z,t\n1,2,3,4\n", "no events: found x, y, z, t; required"),
        ("x,y,p,t\n1,2,3\n", "not a readable table"),
        ("5 9 9 1\n5 9 9\n5 9 9 1\n", "not a readable table: .*row 2"),
        ("5 9 9 1\n5 9 nine 1\n", "not a readable table: .*nine"),
        ("t x y p\n5 9 9 1\n5 9.5 9 1\n", "x is not whole, allowed: whole numbers"),
        ("t x y p\n5 9 9 1\nnan 9 9 1\n", "t is nan, allowed: finite times"),
        ("t x y p\n5 9 9 1\n5 nan 9 1\n", "x is not whole"),
        ("a,b,c,d\n1,2,3,1\n", "found a, b, c, d; required: .*, or --data.event_columns with the name of each column"),
        ("0,5;9;9;1\n", "not an event recording; it looks like text that begins with '0,5;9;9;1'; .*four columns"),
        ("x y p t\n9 9 3 5\n", "p up to 3.0, allowed: 0 or -1"),
    ],
)
def test_broken_text(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"a.dat: .*{message}") as caught:
        read(write_text(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_closed(tmp_path):
    for path in (write_text(tmp_path, "t x y p\n5 9 9 1\n"),):
        with open_events(path, HEIGHT, WIDTH) as reader:
            kept = reader.read()
        with pytest.raises(ValueError, match="the reader is closed"):
            reader.read()
        assert kept.size


@pytest.mark.parametrize(
    "start",
    [
        b"%geometry:320,240\n",
        b"% geometry 320x240\r\n",
        b"\xef\xbb\xbf%geometry:320,240\n",
        b"# first\n\n%Geometry: 320, 240\n% caf\xe9 \x96\nx,y,p,t\n",
        b"# width: 320\n# height = 240\n",
        b"x@320,y@240,on,t\n",
        b'"X@320","Y@240","on","t"\n',
    ],
)
def test_the_sensor_size_in_a_table(tmp_path, start):
    path = tmp_path / "a.txt"
    path.write_bytes(start + b"96,133,0,3811\n5,6,1,3811\n7,200,0,3900\n300,9,1,70000\n")
    with open_events(path) as reader:
        assert (reader.format, reader.height, reader.width) == ("CSV", 240, 320)
        assert np.array_equal(reader.read(), EVENTS)
    with pytest.raises(ValueError, match="a.txt: height, width: got 320, 240, allowed: those of the header, 240, 320"):
        open_events(path, 320, 240)


def test_faery_reads_the_same(tmp_path):
    faery = pytest.importorskip("faery")
    stored = np.zeros(EVENTS.size, faery.EVENTS_DTYPE)
    for name in "txyp":
        stored[name] = EVENTS[name]
    faery.events_stream_from_array(stored, dimensions=(WIDTH, HEIGHT)).to_file(tmp_path / "a.csv")
    with open_events(tmp_path / "a.csv") as reader:
        assert (reader.height, reader.width) == (HEIGHT, WIDTH) and np.array_equal(reader.read(), EVENTS)


@pytest.mark.parametrize("end", ["7,200", "7,200,0,", "7,20", "7,200,0,-", "7,200,0"])
def test_a_truncated_last_line_is_counted(tmp_path, end):
    with open_events(write_text(tmp_path, "96,133,0,3811\n5,6,1,3811\n" + end), HEIGHT, WIDTH) as reader:
        assert np.array_equal(reader.read(), EVENTS[:2]) and reader.faults == Faults(truncated=1)


def test_an_order_that_is_not_certain_is_given(tmp_path):
    path = write_text(tmp_path, "1 2 3 1\n2 3 4 0\n")
    assert read(path, event_columns="t,x,y,p").tolist() == [(2, 3, 1, 1), (3, 4, 0, 2)]
    assert read(path, event_columns="x, y, ts, polarity").tolist() == [(1, 2, 1, 3), (2, 3, 0, 4)]
    path = write_text(tmp_path, "a,b,c,d,e\n8,1,2,3,1\n8,2,3,4,0\n")
    assert read(path, event_columns="id,t,x,y,p").tolist() == [(2, 3, 1, 1), (3, 4, 0, 2)]
    with pytest.raises(ValueError, match="a.dat: data.event_columns: got 't,x,y,p', allowed: 5 names, one per column"):
        read(path, event_columns="t,x,y,p")


def test_names_contradict_an_order(tmp_path):
    path = write_text(tmp_path, "x,y,ts,on\n1,2,3,1\n")
    assert read(path, event_columns="x,y,t,p").tolist() == read(path).tolist() == [(1, 2, 1, 3)]
    with pytest.raises(ValueError, match="a.dat: data.event_columns: got 't,x,y,p', but .*: no value, or x,y,t,p"):
        read(path, event_columns="t,x,y,p")


def test_another_file(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"Event Stream" + bytes(9))
    with pytest.raises(ValueError, match="a.csv: not a readable table; it looks like an Event Stream recording"):
        read(tmp_path / "a.csv", event_format="CSV")
