"""Files that we write are read equally by us and by others: across gaps, late starts, wraps and slow recordings."""

import warnings

import h5py
import numpy as np
import pytest
from event_samples import events_at
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from detector.events import open_events, write_dat, write_evt2, write_evt3, write_hdf5

EXAMPLES = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
PERIOD = 1 << 24


def faery_reads(path):
    faery = pytest.importorskip("faery")
    found = faery.events_stream_from_file(path, dimensions_fallback=(640, 480)).to_array()
    return [found[name].astype(np.int64) for name in ("x", "y", "on", "t")]


def evt3_reads(path):
    found = pytest.importorskip("evt3").decode_file(str(path))
    return [np.asarray(getattr(found, name)).astype(np.int64) for name in ("x", "y", "p", "t")]


def evlib_reads(path):
    found = pytest.importorskip("evlib").load_events(str(path)).collect()
    t = found["t"].dt.total_microseconds() if "Duration" in str(found["t"].dtype) else found["t"]
    return [np.asarray(values).astype(np.int64) for values in (found["x"], found["y"], found["polarity"] > 0, t)]


def expelliarmus_reads(path):
    encoding = "dat" if path.suffix == ".dat" else "evt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pytest.importorskip("expelliarmus").Wizard(encoding=encoding).read(path)
    return [found[name].astype(np.int64) for name in "xypt"]


def h5py_reads(path):
    with h5py.File(path) as file:
        found = file["CD/events"][:]
    return [found[name].astype(np.int64) for name in "xypt"]


def our_reads(path):
    with open_events(path, max_faulty_events=0) as reader:
        return [column.astype(np.int64) for column in reader.read_columns()]


CASES = {
    "DAT": (write_dat, ".dat", 2**31, (faery_reads, expelliarmus_reads)),
    "EVT2": (write_evt2, ".raw", 2**33, (faery_reads, expelliarmus_reads)),
    "EVT3": (write_evt3, ".raw", 2**32, (faery_reads, evt3_reads, evlib_reads)),
    "HDF5": (write_hdf5, ".hdf5", 2**40, (h5py_reads,)),
}

# Steps as recordings have them: within one time, a camera's, slow ones, gaps of seconds, of periods, of an hour.
STEPS = st.one_of(
    st.integers(0, 1),
    st.integers(0, 5000),
    st.integers(90_000, 110_000),
    st.integers(0, 3 * PERIOD),
    st.sampled_from([4095, 4096, PERIOD - 1, PERIOD, PERIOD // 2, PERIOD // 2 + 1, 3600 * 10**6]),
)
STARTS = st.one_of(
    st.integers(0, 10_000),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 4095, PERIOD - 4096, PERIOD - 1, PERIOD, 5 * PERIOD + 17, 2**32 - 1]),
)


def check(folder, name, times):
    write, suffix, _, readers = CASES[name]
    path = folder / f"a{suffix}"
    events = events_at(times)
    if len(times) > 8:  # a run that becomes a vector
        events["x"][:8], events["y"][:8], events["p"][:8] = np.arange(100, 108), 7, 1
    write(path, events, 480, 640)
    for reads in (our_reads, *readers):
        for found, column in zip(reads(path), "xypt", strict=True):
            assert np.array_equal(found, events[column]), (reads.__name__, column, found, events[column])


@pytest.mark.parametrize("name", CASES)
@EXAMPLES
@given(start=STARTS, steps=st.lists(STEPS, max_size=25))
@example(start=0, steps=[100_000] * 300)
@example(start=PERIOD - 4096, steps=[4096])
@example(start=0, steps=[3600 * 10**6, 1])
def test_all_readers_read_the_same(tmp_path, name, start, steps):
    limit = {"EVT2": 2**34 - 1}.get(name)  # expelliarmus reads no time beyond the clock of EVT2
    times = start + np.cumsum([0, *np.minimum(steps, CASES[name][2] - 1)])
    check(tmp_path, name, times if limit is None else np.minimum(times, limit))


def test_a_slow_evt3_of_30_s(tmp_path):
    check(tmp_path, "EVT3", np.arange(0, 30_000_000, 100_000))


def test_evt2_beyond_its_clock_as_faery_reads_it(tmp_path):
    times = [2**34 - 70, 2**34 - 1, 2**34, 2**34 + 900]
    write_evt2(tmp_path / "a.raw", events_at(times), 480, 640)
    assert faery_reads(tmp_path / "a.raw")[3].tolist() == our_reads(tmp_path / "a.raw")[3].tolist() == times


def test_an_hour_of_silence_costs_few_words(tmp_path):
    write_evt3(tmp_path / "a.raw", events_at([5, 3600 * 10**6]), 480, 640)
    assert (tmp_path / "a.raw").stat().st_size < 2000


@pytest.mark.parametrize(("name", "first"), [("DAT", 2**32), ("EVT2", 2**34), ("EVT3", 2**32), ("HDF5", 2**62)])
def test_a_first_time_that_cannot_be_held(tmp_path, name, first):
    write, suffix, step, _ = CASES[name]
    with pytest.raises(ValueError, match=f"events: the first t is {first}, allowed: from 0 to below {first} in this"):
        write(tmp_path / f"a{suffix}", events_at([first]), 480, 640)
    if name != "HDF5":
        with pytest.raises(ValueError, match=f"t goes from 5 to {5 + step} at event 1, allowed: steps from 0 to below"):
            write(tmp_path / f"a{suffix}", events_at([5, 5 + step]), 480, 640)
    assert list(tmp_path.iterdir()) == []
