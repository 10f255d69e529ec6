import numpy as np
import pytest
from event_samples import between
from streams import SENSOR, blob_events, chunks_of

from detector.events import EventCD, open_events, write_dat
from detector.events.framing import _Held, divide_into_frames

DELTA_T = 100_000


def events_at(*times):
    events = np.zeros(len(times), EventCD)
    events["t"] = times
    events["x"] = np.arange(len(times))
    events["p"] = 1
    return events


def frames_of(source, delta_t=DELTA_T):
    return [
        (start, np.stack([column.astype(np.int64) for column in columns]))
        for start, columns in divide_into_frames(source, delta_t)
    ]


def test_frames_by_hand():
    chunks = [events_at(), events_at(1_250, 1_299), events_at(), events_at(1_300, 1_301, 1_520), events_at(1_520)]
    found = frames_of(iter([*chunks, events_at(1_600)]), 100)  # the last event begins a frame
    assert [start for start, _ in found] == [1_200, 1_300, 1_400, 1_500, 1_600]
    assert [columns[3].tolist() for _, columns in found] == [[50, 99], [0, 1], [], [20, 20], [0]]
    assert [columns[0].tolist() for _, columns in found] == [[0, 1], [0, 1], [], [2, 0], [0]]


def test_no_events_no_frames():
    assert frames_of(iter([])) == frames_of(iter([events_at()])) == []


@pytest.mark.parametrize("lengths", [[1, 0, 2, 977], [20_000]])
def test_chunks_and_a_recording_give_the_frames_of_its_windows(tmp_path, lengths):
    events = blob_events()
    write_dat(tmp_path / "a.dat", events, *SENSOR)
    with open_events(tmp_path / "a.dat") as reader:
        of_recording = frames_of(reader)
    of_chunks = frames_of(chunks_of(events, lengths))
    assert len(of_recording) == len(of_chunks) == 20
    for k, (ours, others) in enumerate(zip(of_recording, of_chunks, strict=True)):
        start = 1_200_000 + k * DELTA_T
        expected = between(events, start, start + DELTA_T)
        assert ours[0] == others[0] == start
        np.testing.assert_array_equal(ours[1], others[1])
        np.testing.assert_array_equal(ours[1][3] + start, expected["t"])
        for row, name in enumerate("xyp"):
            np.testing.assert_array_equal(ours[1][row], expected[name])


def test_a_frame_is_given_as_soon_as_it_is_complete():
    asked = []

    def live():
        for time in (10, 60, 110, 250):
            asked.append(time)
            yield events_at(time)

    frames = divide_into_frames(live(), 100)
    assert next(frames)[0] == 0
    assert asked == [10, 60, 110]


def test_only_the_events_of_one_frame_are_held(monkeypatch):
    held = []
    add = _Held.add
    monkeypatch.setattr(_Held, "add", lambda self, *args: (add(self, *args), held.append(self))[0])
    for _ in divide_into_frames(chunks_of(blob_events(), [333]), DELTA_T):
        pass
    assert len(set(map(id, held))) == 1
    assert held[0]._buffer._columns[0].size < 2 * 20_000 / 19  # half of it is room to grow


def test_the_chunks_of_the_caller_are_not_changed():
    events = blob_events()
    before = events.copy()
    frames_of(iter([events]))
    np.testing.assert_array_equal(events, before)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([[5, 4]], [5, 5]),
        ([[5], [4]], [5, 5]),
        ([[250], [160], [270]], [250, 250, 270]),
        ([[10, 20, 900, 30], [40]], [10, 20, 30, 40]),
        ([[10, 20, 900], [30, 40], [910]], [10, 20, 900, 900, 900, 910]),  # 900 was given away
        ([[10, 20, 10**6], [30, 40], [50]], [10, 20, 30, 40, 50]),
        ([[10, 20, 10**6], [], [10**6 + 1]], [10, 20, 10**6, 10**6 + 1]),
        ([[10**6, 20], [30]], [20, 30]),
        ([[10], [10**6]], [10, 10**6]),
        ([[200_010], [100_009, 200_020]], [200_010, 200_020]),
        ([[50, 60, 20], [25, 70]], [50, 60, 60, 60, 70]),
    ],
)
def test_times_that_fall_in_a_stream(times, expected):
    frames = frames_of((events_at(*part) for part in times), 100)
    assert [start + t for start, columns in frames for t in columns[3].tolist()] == expected


def test_time_that_falls_and_stays():
    chunks = [events_at(10, 500_000, 500_001), events_at(399_000, 399_001), events_at(399_002)]
    with pytest.raises(ValueError, match="events: time falls from 500001 to 399000 us and stays low"):
        frames_of(iter(chunks), 100_000)


def test_events_outside_the_sensor_in_a_stream():
    events = events_at(*range(0, 400, 10)).astype([("x", "<u4"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    events["x"][[3, 39]], events["y"][7] = (65_536 + 5, 128), 96
    frames = list(divide_into_frames(iter([events[:4], events[4:]]), 1000, height=96, width=128))
    assert frames[0][1][3].tolist() == [10 * k for k in range(39) if k not in (3, 7)]


def test_too_many_faulty_events_in_a_stream_are_warned_of_once():
    chunks = [events_at(10 * k + 10, 10 * k + 9) for k in range(40)]
    with pytest.warns(UserWarning, match="events: 11 of .* events are faulty: .* data.max_faulty_events") as warned:
        assert frames_of(iter(chunks), 1000)
    assert len(warned) == 1


@pytest.mark.parametrize(
    "chunk", [np.zeros((3, 4)), np.zeros(3, [("x", "<i8"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])]
)
def test_arrays_that_are_no_events(chunk):
    with pytest.raises(ValueError, match="events: got chunks of .* allowed: EventCD arrays"):
        frames_of(iter([chunk]))
