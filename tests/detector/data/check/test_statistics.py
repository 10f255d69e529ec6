import numpy as np
import pytest

from detector.data.check.statistics import BIN_US, LabelStatistics, label_statistics, scan_events
from detector.events import BBOX_dtype, EventCD, open_events, write_dat, write_evt2

HEIGHT, WIDTH = 4, 5


def make_events(rows):
    return np.array([(x, y, p, t) for t, x, y, p in rows], EventCD)


def scan(path, rows, write=write_dat):
    write(path, make_events(rows), HEIGHT, WIDTH)
    parts = []
    with open_events(path) as reader:
        return scan_events(reader, parts.append), parts


@pytest.mark.parametrize("write", [write_dat, write_evt2])
def test_figures_by_hand(tmp_path, write):
    rows = [(60_000, 0, 0, 1), (99_999, 1, 0, 0), (100_000, 0, 0, 1), (100_001, 4, 3, 1), (310_000, 0, 0, 0)]
    found, parts = scan(tmp_path / "a", rows, write)
    assert (found.first_t, found.last_t, found.start) == (60_000, 310_000, 50_000)
    assert found.counts.tolist() == [2, 2, 0, 0, 0, 1]
    assert found.rates.tolist() == [40, 40, 0, 0, 0, 20]  # events per second
    assert [column.tolist() for column in found.curve] == [[100_000, 150_000, 200_000, 250_000], [40, 0, 0, 0]]
    assert found.mean_rate == 20  # 5 events in 250 ms, not in the 300 ms of their bins
    assert (found.num_events, found.num_on) == (5, 3)
    assert found.gap == (100_001, 209_999)
    assert found.share_ever_active == pytest.approx(3 / 20)
    assert sum(parts) == pytest.approx(1)


def test_long_recordings_are_read_in_windows(tmp_path):
    # 100 bins are read as 1, 2, 4, 8, 16, 20, 20, 20 and the remaining 9.
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 100 * BIN_US, 3000))
    times[[0, -1]] = 0, 100 * BIN_US - 1
    rows = [(t, t % WIDTH, t % HEIGHT, t % 2) for t in times.tolist()]
    found, parts = scan(tmp_path / "a", rows)
    assert len(parts) == 9
    assert found.counts.tolist() == np.bincount(times // BIN_US, minlength=100).tolist()
    assert found.num_on == sum(t % 2 for t in times.tolist())
    longest = int(np.argmax(np.diff(times)))
    assert found.gap == (times[longest], times[longest + 1] - times[longest])


def test_recordings_of_one_event_and_of_none(tmp_path):
    found, _ = scan(tmp_path / "one", [(70_000, 2, 2, 1)])
    assert (found.counts.tolist(), found.gap, found.num_on, found.mean_rate) == ([1], (70_000, 0), 1, None)
    found, _ = scan(tmp_path / "none", [])
    assert (found.first_t, found.last_t, found.num_events) == (None, None, 0)


def test_times_that_are_no_microseconds(tmp_path):
    events = make_events([(0, 0, 0, 0), (31 * 24 * 3600 * 1_000_000, 0, 0, 0)])
    np.save(tmp_path / "a.npy", events)
    with open_events(tmp_path / "a.npy", HEIGHT, WIDTH) as reader, pytest.raises(ValueError, match="at most 30 days"):
        scan_events(reader)


def test_the_largest_number_of_bins(tmp_path, monkeypatch):
    monkeypatch.setattr("detector.data.check.statistics.MAX_BINS", 3)
    found, _ = scan(tmp_path / "a", [(60_000, 0, 0, 0), (199_999, 0, 0, 0)])
    assert found.counts.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="events from 60000 to 200000 us, allowed: growing times, at most 30 days"):
        scan(tmp_path / "b", [(60_000, 0, 0, 0), (200_000, 0, 0, 0)])


def make_labels(rows):
    return np.array([(t, x, y, w, h, kind, track, 1) for t, x, y, w, h, kind, track in rows], BBOX_dtype)


def test_label_figures_by_hand():
    labels = make_labels(
        [(100, 2, 2, 10, 20, 0, 1), (100, 30, 2, 20, 20, 1, 2), (350, 4, 2, 10, 20, 0, 1), (400, 0, 0, 0, 0, 9, 0)]
    )
    found = label_statistics(labels, {0: "car", 1: "bus", 9: "empty"}, 0.5, 20, 20)
    assert found.times.tolist() == [100, 350, 400]  # that of an empty frame too
    assert found.intervals.tolist() == [250, 50]
    assert found.rate_hz == pytest.approx(1e6 / 150)
    assert found.sizes.tolist() == [[5, 10], [5, 10], [5, 10]]  # the bus is cut off at x = 20
    assert found.class_counts() == {0: 2, 1: 1}
    assert found.num_tracks == 2
    assert labels["w"].tolist() == [10, 20, 10, 0]


def test_files_together():
    one = label_statistics(make_labels([(100, 0, 0, 4, 4, 0, 1), (200, 0, 0, 4, 4, 0, 1)]), {}, 1, 20, 20)
    other = label_statistics(make_labels([(900, 0, 0, 6, 8, 2, 1)]), {}, 1, 20, 20)
    none = label_statistics(make_labels([]), {}, 1, 20, 20)
    joined = LabelStatistics.join([one, other, none])
    assert joined.intervals.tolist() == [100]  # none from file to file
    assert joined.class_counts() == {0: 2, 2: 1}
    assert (joined.num_tracks, joined.times.size) == (2, 3)
    assert none.rate_hz is None
