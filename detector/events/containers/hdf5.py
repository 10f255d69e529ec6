"""HDF5 recordings in OpenEB's layout with any compression, or in the layouts of other tools, see `hdf5_layout`.

OpenEB (Apache-2.0) stores records x, y, p, t in `/CD/events` and records p, t, id in `/EXT_TRIGGER/events`. Next to
either dataset, a dataset `indexes` contains the index of the first event of every 2 ms. The sensor size is an attribute
of the file.

DSEC stores a number in `/t_offset`, which is added to all times.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.containers.chunked import LAST_TIME, BlockReader, has_fraction, to_microseconds
from detector.events.containers.column_order import find_order
from detector.events.containers.hdf5_layout import find_frame_times, find_layout, find_sensor_size, text_of
from detector.events.headers.column_names import OPTION
from detector.events.headers.file_kinds import unreadable
from detector.events.headers.header import has_signature
from detector.events.headers.sensor_size import MAX_SIDE, sensor_size
from detector.events.prophesee.ecf import count_events, decode, first_time
from detector.events.reader import CHUNK, to_events
from detector.events.types import EventCD, EventExtTrigger
from detector.events.write import check_events
from detector.utils.atomic_write import atomic_write
from detector.utils.hdf5_file import open_hdf5

__all__ = ["Hdf5Reader", "write_hdf5"]

TRIGGERS = "EXT_TRIGGER/events"
ECF = 0x8ECF
"""Id of the ECF filter in HDF5."""

WRITTEN_CHUNK = 1 << 14
"""Number of events per chunk in written files, as in files of OpenEB."""

COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}

INDEX_PERIOD = 2000
"""Microseconds between two entries of `indexes`."""

INDEX = np.dtype([("id", "<u8"), ("ts", "<i8")])


class Hdf5Reader(BlockReader):
    """Reads HDF5 recordings. ECF chunks are decoded without an HDF5 plugin.

    If a file contains several cameras, as files of MVSEC and M3ED do, the events of the left camera are read.

    Args:
        path: path of the recording.
        height: sensor height in pixels, for files that do not contain it.
        width: sensor width in pixels, for files that do not contain it.
        event_columns: order of the columns of an (N, 4) array, such as "t,x,y,p"; None to use the values.

    Raises:
        ValueError: the file is broken, contains no event datasets, or needs an HDF5 filter that is not installed. Or
            the sensor size or the order of the columns is unknown, or one of them contradicts the file.
    """

    def __init__(
        self, path: Path, height: int | None = None, width: int | None = None, event_columns: str | None = None
    ) -> None:
        if not has_signature(path, "HDF5"):
            raise unreadable(path, "not a complete HDF5 file")
        with _readable(path):
            self._file = open_hdf5(path)
        try:
            with _readable(path):
                self._layout = find_layout(path, self._file)
                self._ecf = _check_filters(path, self._layout.datasets)
                self._offset = int(self._file["t_offset"][()]) if "t_offset" in self._file else 0
                self._index, self._index_start = _find_index(self._file)
                found = find_sensor_size(self._file, self._layout)
            size = sensor_size(path, found, height, width)
            self._columns = self._find_columns(path, size, event_columns)
        except BaseException:
            self._file.close()
            raise
        times = self._layout.datasets[-1]
        chunk = times.chunks[0] if times.chunks else CHUNK
        # With ECF, a block is one chunk. With other filters, small chunks are combined into a block.
        super().__init__(path, *size, times.shape[0], chunk if self._ecf else chunk * max(1, CHUNK // chunk))
        self._seconds = False
        kind = times.dtype[self._layout.fields[3]] if self._layout.fields and times.dtype.names else times.dtype
        if kind.kind == "f":
            self._seconds = has_fraction(self._slices(0, CHUNK, raw=True)[3])

    def _find_columns(self, path: Path, size: tuple[int, int], event_columns: str | None) -> Sequence[str | int]:
        """Return the keys of x, y, p, t in a part of the only dataset: names of fields, or positions of columns."""
        layout = self._layout
        if layout.is_table:
            with _readable(path):
                source = f"{path}: {layout.place}"
                return find_order(source, layout.datasets[0], size, event_columns, usual=layout.usual_order)
        if event_columns is not None:
            raise ValueError(f"{path}: {OPTION}: got {event_columns!r}, but the columns have names, allowed: no value")
        return layout.fields or ()

    def _load(self, start: int, out: Columns) -> None:
        if self._ecf:
            mask, chunk = self._chunk(start)
            if mask == 0:
                self._decode(chunk, out)
                return
            dtype = self._layout.datasets[0].dtype  # the chunk was stored without compression
            if len(chunk) < out[0].size * dtype.itemsize:
                raise ValueError(f"{self.path}: chunk of {len(chunk)} bytes, allowed: {out[0].size * dtype.itemsize}")
            records = np.frombuffer(chunk, dtype, out[0].size)
            self._store([records[name] for name in self._columns], out)
            return
        self._store(self._slices(start, start + out[0].size), out)

    def _decode(self, chunk: bytes, out: Columns) -> None:
        found, wanted = count_events(chunk, self.path), out[0].size
        if not wanted <= found <= self._size:
            raise ValueError(
                f"{self.path}: corrupt ECF chunk: it holds {found} events, allowed: {wanted} to {self._size}"
            )
        whole = out if found == wanted else ColumnBuffer().take(found)  # some writers pad the last chunk
        decode(chunk, whole, self.path)
        if whole is not out:
            for column, values in zip(out, whole, strict=True):
                column[:] = values[:wanted]

    def _time(self, start: int) -> int:
        if not self._ecf:
            return int(self._slices(start, start + 1)[3][0])
        mask, chunk = self._chunk(start)
        if mask:
            return int(self._sound_block(start // self._size)[3][0])
        return first_time(chunk, self.path)

    def _likely(self, time: int) -> list[int]:
        entry = (time - self._index_start) // INDEX_PERIOD + 1
        if self._index is None or not 0 <= entry < self._index.shape[0]:
            return []
        with _readable(self.path):
            ids = self._index[entry : entry + 2]["id"].tolist()
        return [ids[0] // self._size, ids[-1] // self._size + 1]

    def _chunk(self, start: int) -> tuple[int, bytes]:
        """Return the filter mask and the stored bytes of the chunk that begins with event `start`.

        The mask is 0 if the chunk is compressed.
        """
        with _readable(self.path):
            return self._layout.datasets[0].id.read_direct_chunk((start,))

    def _slices(self, start: int, stop: int, raw: bool = False) -> list[np.ndarray]:
        """Read the events `start` to `stop - 1` as arrays x, y, p, t with the types of the file.

        t is converted to microseconds, with the offset of the file added. If `raw` is True, t is returned as stored.
        """
        with _readable(self.path):
            parts = [dataset[start:stop] for dataset in self._layout.datasets]
            if self._layout.is_table:
                parts = [parts[0][:, place] for place in self._columns]
            elif len(parts) == 1:
                parts = [parts[0][name] for name in self._columns]
            *pixels, t = parts
            if raw:
                return [*pixels, t]
            t = to_microseconds(self.path, t, self._seconds)
            return [*pixels, t.astype(np.int64) + self._offset if self._offset else t]

    def triggers(self) -> np.ndarray:
        """Return the edges of external triggers of the whole recording as an (N,) `EventExtTrigger` array."""
        self._check_open()
        with _readable(self.path):
            found = self._file[TRIGGERS][:] if TRIGGERS in self._file else np.empty(0, EventExtTrigger)
            edges = np.empty(found.shape, EventExtTrigger)
            for name in edges.dtype.names:
                edges[name] = found[name]
            return edges

    def frame_times(self) -> np.ndarray:
        """Return the times of the camera images that the file contains, as an (N,) int64 array in microseconds.

        The times are on the clock of the events, in the order of the file. The array is empty if there are no images.

        Raises:
            ValueError: a time is not a finite number.
        """
        self._check_open()
        with _readable(self.path):
            times = find_frame_times(self._file, self._layout)
        if times.dtype.kind not in "iuf":
            raise ValueError(f"{self.path}: times of images are {times.dtype}, allowed: numbers")
        times = to_microseconds(self.path, times, self._seconds or has_fraction(times))
        return times.astype(np.int64) + self._offset

    def close(self) -> None:
        """Close the file. Arrays that were read remain valid."""
        super().close()
        self._file.close()


def write_hdf5(path: str | Path, events: np.ndarray, height: int, width: int) -> None:
    """Write an HDF5 recording in OpenEB's layout, gzip-compressed. The file appears only when it is complete.

    Args:
        path: file to write; an existing file is replaced.
        events: (N,) array with the fields of `EventCD`, in order of time.
        height: sensor height in pixels, at most 65536.
        width: sensor width in pixels, at most 65536.

    Raises:
        ValueError: a field is missing, an event is outside the sensor, times fall, or a time or time difference is too
            large.
    """
    check_events(events, height, width, max_side=MAX_SIDE, period=LAST_TIME)
    indexes = _indexes(events["t"])
    with atomic_write(path) as part, h5py.File(part, "w", locking=False) as file:
        file.attrs.update({"version": "1.0", "geometry": f"{width}x{height}"})
        stored = _create(file, "CD/events", EventCD, events.size)
        for start in range(0, events.size, CHUNK):
            piece = events[start : start + CHUNK]
            stored[start : start + CHUNK] = to_events((piece["x"], piece["y"], piece["p"], piece["t"]))
        _create(file, "CD/indexes", INDEX, indexes.size)[:] = indexes
        if events.size:
            file["CD/indexes"].attrs["offset"] = str(-int(events["t"][0]))
        _create(file, TRIGGERS, EventExtTrigger, 0)
        _create(file, "EXT_TRIGGER/indexes", INDEX, 0)


def _create(file: h5py.File, name: str, dtype: np.dtype, count: int) -> h5py.Dataset:
    return file.create_dataset(name, (count,), dtype, maxshape=(None,), chunks=(WRITTEN_CHUNK,), **COMPRESSION)


def _indexes(t: np.ndarray) -> np.ndarray:
    """Create OpenEB's dataset `indexes`: an entry (0, -1), then one entry per period of `INDEX_PERIOD` microseconds.

    An entry contains the index of the first event in the period, and the time of this event since the first event of
    the recording. The entry of a period without events is a copy of the previous entry.
    """
    if t.size == 0:
        return np.empty(0, INDEX)
    since = t - t[0]
    starts = np.arange(int(since[-1]) // INDEX_PERIOD + 1, dtype=np.int64) * INDEX_PERIOD
    first = np.searchsorted(since, starts)
    first = np.maximum.accumulate(np.where(since[first] < starts + INDEX_PERIOD, first, 0))
    entries = np.empty(first.size + 1, INDEX)
    entries[0] = 0, -1
    entries["id"][1:], entries["ts"][1:] = first, since[first]
    return entries


def _find_index(file: h5py.File) -> tuple[h5py.Dataset | None, int]:
    """Return OpenEB's index of the events and the time in microseconds at which it starts.

    If the file has no usable index, return (None, 0).
    """
    with suppress(KeyError, ValueError, TypeError):
        index = file["CD/indexes"]
        if index.dtype == INDEX and index.ndim == 1 and _check_filters(Path(file.filename), [index]) is False:
            return index, -int(text_of(index.attrs["offset"]))
    return None, 0


def _check_filters(path: Path, datasets: Sequence[h5py.Dataset]) -> bool:
    """Return True if the events are compressed with ECF, otherwise False.

    Raises:
        ValueError: the datasets are compressed with another HDF5 filter, which is not installed.
    """
    for dataset in datasets:
        properties = dataset.id.get_create_plist()
        filters = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
        if filters == [ECF] and len(datasets) == 1:
            return True
        if not all(_available(number) for number in filters):
            raise ValueError(
                f"{path}: {dataset.name} is compressed by HDF5 filters {filters}, which are not all "
                "installed: pip install hdf5plugin"
            )
    return False


def _available(number: int) -> bool:
    with suppress(ImportError):
        if not h5py.h5z.filter_avail(number):
            import hdf5plugin  # noqa: F401  # importing it registers its filters
    return h5py.h5z.filter_avail(number)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Context manager in which errors of the HDF5 library become a ValueError that names the file."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, TypeError, ArithmeticError, ValueError, MemoryError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: HDF5 cannot be read: {reason}") from None
