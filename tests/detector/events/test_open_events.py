from itertools import pairwise

import numpy as np
import pytest

from detector.events import EventCD, open_events, write_dat, write_evt2, write_evt3, write_hdf5

EVENTS = np.array([(1, 2, 1, 130), (3, 4, 0, 170), (5, 6, 1, 350)], EventCD)


@pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3, write_hdf5])
def test_the_ending_does_not_matter(tmp_path, write):
    write(tmp_path / "a.txt", EVENTS, 10, 20)
    with open_events(tmp_path / "a.txt") as reader:
        assert (reader.height, reader.width) == (10, 20)
        assert np.array_equal(reader.read(), EVENTS)


def test_a_format_without_a_reader_is_named(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"% evt 4.0\n% end\n")
    with pytest.raises(
        ValueError, match=r"a.raw: the format is EVT 4.0, which has no reader, allowed in .*: auto, DAT"
    ):
        open_events(tmp_path / "a.raw")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_dat(tmp_path / "a", EVENTS, 10, 20)
    with pytest.raises(ValueError, match="x runs from"):
        write_dat(tmp_path / "a", EVENTS, 10, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert np.array_equal(open_events(tmp_path / "a").read(), EVENTS)


OWN_FORMATS = """
import numpy as np
from detector.events import ArrayReader

def read_text(path, height, width):
    t, x, y, p = np.loadtxt(path, delimiter="|", unpack=True)
    return ArrayReader(path, (x, y, p, t), height, width)

class ReadNpz(ArrayReader):
    def __init__(self, path, height, width):
        with np.load(path) as file:
            super().__init__(path, [file[name] for name in "xypt"], *file["size"])

def no_reader(path, height, width):
    return np.load(path)

def read_columns(path, height, width, event_columns="t,x,y,p"):
    rows = np.loadtxt(path, delimiter="|", ndmin=2)
    order = event_columns.split(",")
    return ArrayReader(path, [rows[:, order.index(name)] for name in "xypt"], height, width)

def uneven(path, height, width):
    return ArrayReader(path, (np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(2)), height, width)
"""


@pytest.fixture
def formats(tmp_path, monkeypatch):
    """A module outside the product, under a name that no other test uses."""
    name = f"formats_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN_FORMATS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def random_events(count):
    rng = np.random.default_rng(0)
    events = np.zeros(count, EventCD)
    events["t"] = np.sort(rng.integers(0, 10**6, count))
    events["x"], events["y"], events["p"] = (rng.integers(0, end, count) for end in (20, 10, 2))
    return events


@pytest.mark.parametrize("name", ["read_text", "ReadNpz"])
def test_a_format_outside_the_product_reads_as_dat_does(tmp_path, formats, name):
    events = random_events(70_000)
    path = tmp_path / "a"
    if name == "read_text":
        rows = np.stack([events[field] for field in "txyp"], axis=1)
        np.savetxt(path, rows, fmt="%d", delimiter="|")
    else:
        with path.open("wb") as file:
            np.savez(file, size=(10, 20), **{field: events[field] for field in "xypt"})
    write_dat(tmp_path / "a.dat", events, 10, 20)
    size = (10, 20) if name == "read_text" else (None, None)
    with open_events(path, *size, event_format=f"{formats}:{name}") as own, open_events(tmp_path / "a.dat") as dat:
        assert (own.height, own.width, own.format) == (10, 20, f"{formats}:{name}")
        assert (own.first_t, own.last_t) == (dat.first_t, dat.last_t)
        assert np.array_equal(own.read(), events)
        for t0, t1 in pairwise(range(0, 1_000_001, 125_000)):
            assert np.array_equal(own.read(t0, t1), dat.read(t0, t1))
        for (start, found), (expected_start, expected) in zip(own.windows(99_000), dat.windows(99_000), strict=True):
            assert start == expected_start and np.array_equal(found, expected)
        assert np.array_equal(np.concatenate(list(own.batches(999))), events)
        assert own.faults.total == 0
    with pytest.raises(ValueError, match="the reader is closed"):
        own.read()


def test_faulty_events_of_a_format_outside_the_product_are_counted(tmp_path, formats):
    path = tmp_path / "a.txt"
    path.write_text("10|1|1|0\n20|25|1|1\n30|1|1|1\n29|1|1|0\n40|1|1|1\n")
    with open_events(path, 10, 20, event_format=f"{formats}:read_text") as reader:
        assert reader.read()["t"].tolist() == [10, 30, 30, 40]
        assert (reader.faults.outside, reader.faults.late) == (1, 1)
    with (
        open_events(path, 10, 20, event_format=f"{formats}:read_text", max_faulty_events=0) as reader,
        pytest.raises(ValueError, match="2 of 5 events are faulty"),
    ):
        reader.read()


@pytest.mark.parametrize(
    ("event_format", "message"),
    [
        ("EVT9", "data.event_format: got 'EVT9', allowed: auto, DAT, EVT2, EVT2.1, EVT3, HDF5, NPY, CSV.* import path"),
        ("no_such_module:read", "data.event_format: got 'no_such_module:read', which cannot be imported .*No module"),
        ("{}:nothing", "which cannot be imported .*nothing"),
        ("{}:no_reader", "no_reader returned a ndarray, allowed: an EventReader, such as detector.events.ArrayReader"),
        ("{}:uneven", "a.npy: columns have shapes .* allowed: x, y, p, t of one shape"),
        ("{}:ReadNpz", "a.npy: cannot be opened as .*ReadNpz: "),
        ("{}:read_text", "a.npy: cannot be opened as .*read_text: "),
        ("HDF5", "a.npy: not a complete HDF5 file"),
        ("CSV", "a.npy: not a readable table"),
        ("DAT", "a.npy: not a DAT or RAW recording: event type and size"),
    ],
)
def test_errors_of_formats_are_one_line(tmp_path, formats, event_format, message):
    np.save(tmp_path / "a.npy", np.zeros(5))
    with pytest.raises(ValueError, match=message) as caught:
        open_events(tmp_path / "a.npy", 10, 20, event_format=event_format.format(formats))
    assert "\n" not in str(caught.value)


def test_a_format_that_is_given_counts_more_than_the_content(tmp_path):
    write_evt2(tmp_path / "a.raw", EVENTS, 10, 20)
    content = (tmp_path / "a.raw").read_bytes()
    (tmp_path / "bare").write_bytes(content[content.index(b"% end\n") + 6 :])
    with pytest.raises(ValueError, match="bare: not an event recording"):
        open_events(tmp_path / "bare", 10, 20)
    with open_events(tmp_path / "bare", 10, 20, event_format="EVT2") as reader:
        assert np.array_equal(reader.read(), EVENTS)
    with open_events(tmp_path / "a.raw") as reader:
        assert reader.format == "EVT2"
    with pytest.raises(FileNotFoundError, match="none: no such recording"):
        open_events(tmp_path / "none", event_format="EVT2")


def test_the_order_of_columns_is_passed_to_readers_that_accept_it(tmp_path, formats):
    (tmp_path / "a").write_text("1|2|3|1\n")
    own = f"{formats}:read_columns"
    assert open_events(tmp_path / "a", 10, 20, event_format=own).read().tolist() == [(2, 3, 1, 1)]
    given = open_events(tmp_path / "a", 10, 20, event_format=own, event_columns="x,y,t,p")
    assert given.read().tolist() == [(1, 2, 1, 3)]
    with pytest.raises(ValueError, match="data.event_columns: got 'x,y,t', allowed: the names of all columns in order"):
        open_events(tmp_path / "a", 10, 20, event_format=own, event_columns="x,y,t")
    with pytest.raises(
        ValueError, match="a: data.event_columns: got 'x,y,t,p', but .*:read_text have fixed fields, allow"
    ):
        open_events(tmp_path / "a", 10, 20, event_format=f"{formats}:read_text", event_columns="x,y,t,p")


@pytest.mark.parametrize(("write", "name"), [(write_dat, "DAT"), (write_evt2, "EVT2"), (write_evt3, "EVT3")])
def test_formats_with_fixed_fields_have_no_order_of_columns(tmp_path, write, name):
    write(tmp_path / "a", EVENTS, 10, 20)
    assert open_events(tmp_path / "a", event_columns=None).read().size == 3
    with pytest.raises(
        ValueError, match=f"a: data.event_columns: got 't,x,y,p', but recordings of the format {name} have"
    ):
        open_events(tmp_path / "a", event_columns="t,x,y,p")
