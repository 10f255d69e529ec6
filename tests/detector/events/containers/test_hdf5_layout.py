"""Every layout in a small file that the test writes as the tool does."""

import os

import h5py
import numpy as np
import pytest

from detector.events import EventCD, open_events, write_dat

HEIGHT, WIDTH = 260, 346
EVENTS = np.array([(96, 133, 0, 3811), (5, 6, 1, 3811), (7, 200, 0, 3900), (345, 9, 1, 70_000)], EventCD)
START = 1_506_118_124
"""A time in seconds at which recordings of MVSEC begin."""


def table(order, scale=1.0):
    columns = {name: EVENTS[name].astype(float) for name in "xypt"}
    columns["t"] = columns["t"] * scale
    return np.stack([columns[name] for name in order], axis=1)


def later(seconds):
    events = EVENTS.copy()
    events["t"] += seconds * 1_000_000
    return events


def write_mvsec(file, camera="davis/left", shift=0):
    rows = table("xytp", 1e-6)
    rows[:, 0] -= shift
    rows[:, 2] += START
    rows[:, 3] = 2 * rows[:, 3] - 1
    file[f"{camera}/events"] = rows
    file[f"{camera}/image_raw"] = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    file[f"{camera}/image_raw_ts"] = np.array([START + 0.004, START + 0.054_321])
    file[f"{camera}/image_raw_event_inds"] = np.array([2, 3])


def write_m3ed(file, camera="prophesee/left", shift=0):
    for name in "xypt":
        file[f"{camera}/{name}"] = EVENTS[name] - (shift if name == "x" else 0)
    file[f"{camera}/ms_map_idx"] = np.array([0, 0, 0, 0], np.uint64)
    file[f"{camera}/calib/resolution"] = np.array([WIDTH, HEIGHT])
    if "ovc" not in file:
        file["ovc/ts"] = np.array([0, 40_000, 80_000])


def write_event_utils(file):
    file["events/xs"], file["events/ys"] = EVENTS["x"].astype(np.int16), EVENTS["y"].astype(np.int16)
    file["events/ts"], file["events/ps"] = EVENTS["t"] / 1e6, EVENTS["p"] > 0
    file.attrs["sensor_resolution"] = (HEIGHT, WIDTH, 1)
    file.attrs["num_events"] = 4
    for index, time in enumerate((0.003_9, 0.05)):
        file[f"images/image{index:09d}"] = np.zeros((HEIGHT, WIDTH), np.uint8)
        file[f"images/image{index:09d}"].attrs["timestamp"] = time


def write_v2e(file):
    file.create_dataset("events", data=table("txyp").astype(np.uint32), maxshape=(None, 4), compression="gzip")
    file["frame"] = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    file["frame_ts"] = np.array([0, 33_333, 66_666], np.uint32)
    file["frame_idx"] = np.array([0, 3, 3], np.uint64)


LAYOUTS = {
    "MVSEC": (write_mvsec, START, [START * 1_000_000 + 4000, START * 1_000_000 + 54_321]),
    "M3ED": (write_m3ed, 0, [0, 40_000, 80_000]),
    "event_utils": (write_event_utils, 0, [3900, 50_000]),
    "v2e": (write_v2e, 0, [0, 33_333, 66_666]),
}


def write(tmp_path, make, *args):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, *args)
    return tmp_path / "a.h5"


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    make, start, frames = LAYOUTS[name]
    with open_events(write(tmp_path, make)) as reader:
        assert (reader.format, reader.height, reader.width) == ("HDF5", HEIGHT, WIDTH)
        assert np.array_equal(reader.read(), later(start))
        assert np.array_equal(reader.read(start * 10**6 + 3900), later(start)[2:])
        times = reader.frame_times()
        assert times.dtype == np.int64 and times.tolist() == frames
    with pytest.raises(ValueError, match="the reader is closed"):
        reader.frame_times()
    with pytest.raises(ValueError, match="a.h5: height, width: got 261, 346, allowed: those of the header, 260, 346"):
        open_events(tmp_path / "a.h5", 261, 346)


@pytest.mark.parametrize(("make", "group"), [(write_mvsec, "davis"), (write_m3ed, "prophesee")])
def test_the_left_camera_is_read(tmp_path, make, group):
    start = LAYOUTS["MVSEC"][1] if group == "davis" else 0
    path = write(tmp_path, make, f"{group}/right", 4)
    right = later(start)
    right["x"] -= 4
    assert np.array_equal(open_events(path).read(), right)
    with h5py.File(path, "a") as file:
        make(file, f"{group}/left")
    assert np.array_equal(open_events(path).read(), later(start))


def test_files_without_images_have_no_frame_times(tmp_path):
    write_dat(tmp_path / "a.dat", EVENTS, HEIGHT, WIDTH)
    assert open_events(tmp_path / "a.dat").frame_times().tolist() == []
    path = write(tmp_path, write_event_utils)
    with h5py.File(path, "a") as file:
        del file["images"]
        file.create_group("images")
    times = open_events(path).frame_times()
    assert times.dtype == np.int64 and times.size == 0


def test_frame_times_have_the_offset_of_the_events(tmp_path):
    path = write(tmp_path, write_event_utils)
    with h5py.File(path, "a") as file:
        file["t_offset"] = 1_000_000
    with open_events(path) as reader:
        assert reader.first_t == 1_003_811 and reader.frame_times().tolist() == [1_003_900, 1_050_000]


@pytest.mark.parametrize(
    ("times", "message"),
    [([0.5, np.nan], "t is nan, allowed: finite times"), ([b"x"], "times of images are object, allowed: numbers")],
)
def test_frame_times_that_are_no_times(tmp_path, times, message):
    path = write(tmp_path, write_mvsec)
    with h5py.File(path, "a") as file:
        del file["davis/left/image_raw_ts"]
        file["davis/left/image_raw_ts"] = times
    with open_events(path) as reader, pytest.raises(ValueError, match=f"a.h5: {message}"):
        reader.frame_times()


@pytest.mark.parametrize("order", ["txyp", "xypt", "xytp"])
@pytest.mark.parametrize("scale", [1, 1e-6])
def test_tables_in_any_order(tmp_path, order, scale):
    path = write(tmp_path, lambda file: file.create_dataset("events", data=table(order, scale), chunks=(3, 2)))
    assert np.array_equal(open_events(path, HEIGHT, WIDTH).read(), EVENTS)


def test_an_order_that_is_not_certain(tmp_path):
    rows = np.array([[1, 2, 3, 1], [2, 3, 4, 0]], np.uint32)
    path = write(tmp_path, lambda file: file.create_dataset("events", data=rows))
    with pytest.raises(ValueError, match="a.h5: events: the columns have no names, .*: t,x,y,p or x,y,t,p; .*columns"):
        open_events(path, 10, 20)
    assert open_events(path, 10, 20, event_columns="x,y,t,p").read().tolist() == [(1, 2, 1, 3), (2, 3, 0, 4)]
    with h5py.File(path, "a") as file:
        file["frame_ts"] = [0, 1]  # a file of v2e
    assert open_events(path, 10, 20).read().tolist() == [(2, 3, 1, 1), (3, 4, 0, 2)]
    path = write(tmp_path, lambda file: file.create_dataset("davis/left/events", data=rows.astype(float)))
    assert open_events(path, 10, 20).read().tolist() == [(1, 2, 1, 3), (2, 3, 0, 4)]


def test_named_columns_have_no_order(tmp_path):
    with pytest.raises(
        ValueError, match="a.h5: data.event_columns: got 't,x,y,p', but the columns have names, allowed"
    ):
        open_events(write(tmp_path, write_m3ed), event_columns="t,x,y,p")


def test_the_sensor_size_must_be_told_without_the_images(tmp_path):
    path = write(tmp_path, write_mvsec)
    with h5py.File(path, "a") as file:
        del file["davis/left/image_raw"]
    with pytest.raises(
        ValueError, match="a.h5: the header contains no sensor size, .*: --sensor_height N --sensor_width"
    ):
        open_events(path)
    assert np.array_equal(open_events(path, HEIGHT, WIDTH).read(), later(START))


@pytest.mark.parametrize("value", [(0, 5), (4.5, 5.5), "x", (1, 2, 3, 4), 7])
def test_sensor_sizes_that_are_none(tmp_path, value):
    path = write(tmp_path, write_event_utils)
    with h5py.File(path, "a") as file:
        file.attrs["sensor_resolution"] = value
    with pytest.raises(ValueError, match="a.h5: the header contains no sensor size"):
        open_events(path)


def test_other_contents(tmp_path):
    path = write(tmp_path, lambda file: file.create_dataset("davis/left/depth_image_raw", data=np.zeros((2, 3, 4))))
    with pytest.raises(ValueError, match="a.h5: davis/left: no events: found depth_image_raw; required: "):
        open_events(path, HEIGHT, WIDTH)
    path = write(tmp_path, lambda file: [file.create_group(f"events/{name}") for name in "xypt"])
    with pytest.raises(
        ValueError, match="a.h5: events: x, y, p, t are not all datasets, required: datasets x, y, p, t"
    ):
        open_events(path, HEIGHT, WIDTH)
    path = write(tmp_path, lambda file: file.create_dataset("events", data=np.zeros((4, 5))))
    with pytest.raises(ValueError, match="a.h5: events: no events: found nothing; required: "):
        open_events(path, HEIGHT, WIDTH)


@pytest.mark.parametrize("chunks", [(100,), None])
def test_events_that_are_not_stored(tmp_path, chunks):
    def make(file):
        for name in "xypt":
            file.create_dataset(f"events/{name}", (10**12,), "i8", chunks=chunks and (10**6,))

    with pytest.raises(ValueError, match="a.h5: /events/x has 1,000,000,000,000 events, but .* are not stored"):
        open_events(write(tmp_path, make), HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["link", "deep link", "link of another image", "external", "virtual"])
def test_other_files_are_not_even_opened(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")  # a process that opens it waits for ever
    with h5py.File(write(tmp_path, write_event_utils), "a") as file:
        link = h5py.ExternalLink(str(tmp_path / "pipe"), "x")
        if kind == "link":
            del file["events/xs"]
            file["events/xs"] = link
        elif kind == "deep link":
            file["a/b/c/d"] = link
        elif kind == "link of another image":
            file["images/image000000009"] = link
        elif kind == "external":
            file.create_dataset("more", (4,), "i8", external=[(str(tmp_path / "pipe"), 0, 32)])
        else:
            layout = h5py.VirtualLayout((4,), "i8", maxshape=(None,))
            source = h5py.VirtualSource(str(tmp_path / "pipe"), "x", shape=(4,), maxshape=(None,))
            layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
            file.create_virtual_dataset("more", layout)
    with pytest.raises(ValueError, match="a.h5: [a-z0-9/]+ is .* of another file, allowed: data in the file itself$"):
        open_events(tmp_path / "a.h5")


def test_soft_links_and_groups_that_are_nested_deeply(tmp_path):
    with h5py.File(write(tmp_path, write_event_utils), "a") as file:
        file["events/xs2"] = file["events/xs"]
        del file["events/xs"]
        file["events/xs"] = h5py.SoftLink("/events/xs2")
        file["dangling"] = h5py.SoftLink("/nothing")
        file["loop"] = file["/"]
        group = file.create_group("deep").id
        for _ in range(30_000):  # deep enough to overflow the stack of a recursive visit
            group = h5py.h5g.create(group, b"a")
    assert np.array_equal(open_events(tmp_path / "a.h5").read(), EVENTS)
