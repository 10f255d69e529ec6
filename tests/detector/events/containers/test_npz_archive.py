import zipfile

import numpy as np
import pytest

from detector.events import EventCD, open_events

HEIGHT, WIDTH = 240, 320
EVENTS = np.array([(96, 133, 0, 3811), (5, 6, 1, 3811), (7, 200, 0, 3900), (300, 9, 1, 70_000)], EventCD)
COLUMNS = {name: EVENTS[name] for name in "xypt"}
TABLE = np.stack([EVENTS[name] for name in "xytp"], axis=1)


def write(tmp_path, save=np.savez, **arrays):
    with (tmp_path / "a.data").open("wb") as file:
        save(file, **arrays)
    return tmp_path / "a.data"


def read(path, height=HEIGHT, width=WIDTH, **options):
    with open_events(path, height, width, **options) as reader:
        assert reader.format == "NPZ"
        return reader.read()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "arrays",
    [
        COLUMNS,
        {"xs": EVENTS["x"], "ys": EVENTS["y"], "ts": EVENTS["t"] / 1e6, "ps": EVENTS["p"] > 0, "images": np.zeros(5)},
        {"events": EVENTS, "labels": np.zeros((3, 3))},
        {"arr_0": TABLE},
        {"Timestamp": EVENTS["t"], "X": EVENTS["x"], "Y": EVENTS["y"], "Polarity": 2 * EVENTS["p"] - 1},
    ],
)
def test_arrays_in_all_forms(tmp_path, save, arrays):
    assert np.array_equal(read(write(tmp_path, save, **arrays)), EVENTS)


def test_sizes_in_the_file(tmp_path):
    with open_events(write(tmp_path, **COLUMNS, height=240, width=[320])) as reader:
        assert (reader.height, reader.width) == (240, 320)
    with pytest.raises(ValueError, match="a.data: the header contains no sensor size, .*--sensor_width N"):
        open_events(write(tmp_path, **COLUMNS, height=240))


def test_an_order_that_is_given(tmp_path):
    path = write(tmp_path, events=np.array([[1, 2, 3, 1], [2, 3, 4, 0]]))
    with pytest.raises(ValueError, match="a.data: events: the columns have no names, .* t,x,y,p or x,y,t,p; "):
        read(path)
    assert read(path, event_columns="t,x,y,p").tolist() == [(2, 3, 1, 1), (3, 4, 0, 2)]
    with pytest.raises(ValueError, match="a.data: data.event_columns: got 't,x,y,p', but the arrays have names"):
        read(write(tmp_path, **COLUMNS), event_columns="t,x,y,p")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "not an event recording; it looks like an empty zip archive"),
        (
            {"x": EVENTS["x"], "y": EVENTS["y"]},
            r"no events: found x uint16 \(4,\), y uint16 \(4,\); required: arrays x",
        ),
        ({"a": TABLE, "b": TABLE}, r"no events: found a int64 \(4, 4\), b int64 \(4, 4\); required"),
        ({**COLUMNS, "t": EVENTS["t"][1:]}, "columns have shapes"),
        ({**COLUMNS, "x": np.array([{}] * 4)}, "not a readable NPZ file, .*: Object arrays cannot be loaded"),
        ({"x": EVENTS["x"], "y": EVENTS["y"], "p": EVENTS["p"], "t_ms": EVENTS["t"]}, "times in ms .t_ms., allowed"),
    ],
)
def test_other_arrays(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=f"a.data: {message}") as caught:
        read(write(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


def test_truncated_and_damaged_files(tmp_path):
    path = write(tmp_path, np.savez_compressed, **COLUMNS)
    whole = path.read_bytes()
    for content in (whole[:-30], whole[: len(whole) // 2], whole[:40], whole[:60] + bytes(9) + whole[69:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.data: not a readable NPZ file, it may be truncated: .+"):
            read(path)


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "text")
    with pytest.raises(
        ValueError, match="a.zip: not an event recording; it looks like a zip archive without NPY arrays"
    ):
        open_events(tmp_path / "a.zip", HEIGHT, WIDTH)
    (tmp_path / "a.npz").write_bytes(b"text")
    with pytest.raises(ValueError, match="a.npz: not a readable NPZ file; it looks like text that begins with 'text'"):
        open_events(tmp_path / "a.npz", HEIGHT, WIDTH, event_format="NPZ")
