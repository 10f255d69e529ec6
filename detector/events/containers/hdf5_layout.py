"""Where HDF5 files of various tools store events, the sensor size and the times of images.

====================  ==========================================  =============================  ======================
Tool                  Events                                      Sensor size                    Times of images
====================  ==========================================  =============================  ======================
OpenEB                `/CD/events`: records x, y, p, t            attribute `geometry`
DSEC, RVT             `/events/{x,y,p,t}`                         `/events/{height,width}`
event_utils, E2VID    `/events/{xs,ys,ts,ps}`                     attribute `sensor_resolution`  `/images/*`: attribute
v2e                   `/events`: (N, 4) t, x, y, p                shape of `/frame`              `/frame_ts`
MVSEC                 `/davis/left/events`: (N, 4) x, y, t, p     shape of `image_raw`           `image_raw_ts`
M3ED                  `/prophesee/left/{x,y,t,p}`                 `calib/resolution`             `/ovc/ts`
====================  ==========================================  =============================  ======================

Sources: rosbag2hdf5.py of M3ED, event_packagers.py of event_utils, emulator.py of v2e, and readers of the other files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from detector.events.headers.column_names import find_names
from detector.events.headers.header import Header

__all__ = ["Layout", "find_frame_times", "find_layout", "find_sensor_size", "text_of"]

CAMERAS = ("davis/left", "prophesee/left", "davis/right", "prophesee/right")
"""Groups of a camera. If a file contains several cameras, the first of them is read."""

PLACES = ("CD/events", "events", *(place for camera in CAMERAS for place in (f"{camera}/events", camera)), "/")
"""Paths of the events in a file: a dataset of records or of shape (N, 4), or a group of datasets x, y, p, t."""

SIZE_FIELDS = ("geometry", "format", "height", "width", "system_id")

RESOLUTION = "sensor_resolution"

STORED_RATIO = 64
"""Ratio of the size of the events to the size of the file above which missing chunks are looked for."""


@dataclass(frozen=True)
class Layout:
    """Where a file contains its events.

    Args:
        place: path of the dataset or group in the file
        datasets: one dataset with all columns, or the four datasets x, y, p, t
        fields: names of the fields x, y, p, t in the only dataset, None if it is an array of shape (N, 4)
        usual_order: order of the columns of an (N, 4) array that the tool writes, None if the tool is not known
    """

    place: str
    datasets: Sequence[h5py.Dataset]
    fields: tuple[str, str, str, str] | None = None
    usual_order: str | None = None

    @property
    def is_table(self) -> bool:
        """Whether the events are an array of shape (N, 4), whose columns have no names."""
        return len(self.datasets) == 1 and self.fields is None

    @property
    def camera(self) -> str:
        """Path of the group of the camera, or "/" if the file does not contain such groups."""
        return next((camera for camera in CAMERAS if self.place.startswith(camera)), "/")


def find_layout(path: Path, file: h5py.File) -> Layout:
    """Find the events in a file.

    Raises:
        ValueError: the file contains no events, or not all of them are stored.
    """
    problems = []
    for place in (place for place in PLACES if place in file):
        try:
            layout = _layout_at(path, file, place)
        except ValueError as error:
            problems.append(error)
            continue
        _check_stored(path, layout)
        return layout
    raise problems[0]


def _layout_at(path: Path, file: h5py.File, place: str) -> Layout:
    found = file[place]
    source = f"{path}: {place}"
    if isinstance(found, h5py.Group):
        names = find_names(source, found)
        layout = Layout(place, [found[name] for name in names], names)
        if not all(isinstance(dataset, h5py.Dataset) for dataset in layout.datasets):
            raise ValueError(f"{source}: {', '.join(names)} are not all datasets, required: datasets x, y, p, t")
    elif not isinstance(found, h5py.Dataset):
        raise ValueError(f"{source} is not data, required: a dataset or a group")
    elif len(found.shape or ()) == 2 and found.shape[1] == 4 and found.dtype.kind in "iuf":
        return Layout(place, [found], None, _usual_order(file, place))
    else:
        layout = Layout(place, [found], find_names(source, found.dtype.names or ()))
    shapes = {dataset.shape for dataset in layout.datasets}
    if len(shapes) > 1 or len(layout.datasets[0].shape or ()) != 1:
        raise ValueError(f"{path}: x, y, p, t have shapes {shapes}, allowed: the same shape (N,) for all")
    return layout


def _usual_order(file: h5py.File, place: str) -> str | None:
    if place.startswith("davis/"):
        return "x,y,t,p"
    return "t,x,y,p" if place == "events" and ("frame_ts" in file or "frame_idx" in file) else None


def _check_stored(path: Path, layout: Layout) -> None:
    """Raise a ValueError if chunks of events are missing. HDF5 would return zeros in their place."""
    size = path.stat().st_size
    for dataset in layout.datasets:
        if dataset.nbytes <= STORED_RATIO * size or dataset.is_virtual:
            continue
        chunks = dataset.chunks or dataset.shape
        needed = int(np.prod([-(-side // chunk) for side, chunk in zip(dataset.shape, chunks, strict=True)]))
        stored = dataset.id.get_num_chunks() if dataset.chunks else 0
        if stored < needed:
            raise ValueError(
                f"{path}: {dataset.name} has {dataset.shape[0]:,} events, but {needed - stored:,} of {needed:,} parts "
                "are not stored, required: a complete file"
            )


def find_sensor_size(file: h5py.File, layout: Layout) -> tuple[int, int] | None:
    """Return (height, width) of the sensor in pixels, None if the file does not contain them."""
    holders = [(holder, name) for holder in (file, file[layout.place]) for name in holder.attrs]
    known = (*SIZE_FIELDS, RESOLUTION)
    attributes = {name.lower(): holder.attrs[name] for holder, name in holders if name.lower() in known}
    fields = {name: text_of(value) for name, value in attributes.items() if name != RESOLUTION}
    sides = {name: file[f"events/{name}"] for name in ("height", "width") if f"events/{name}" in file}
    fields |= {name: text_of(side[()]) for name, side in sides.items() if isinstance(side, h5py.Dataset)}
    if found := Header("HDF5", fields, 0).sensor_size():
        return found
    if resolution := _two_sides(attributes.get(RESOLUTION)):
        return resolution  # (height, width), and the number of channels in some files
    calibrated = file.get(f"{layout.camera}/calib/resolution")
    if isinstance(calibrated, h5py.Dataset) and (found := _two_sides(calibrated[()])):
        return found[1], found[0]
    images = file.get("frame" if layout.place == "events" else f"{layout.camera}/image_raw")
    return _two_sides(images.shape[1:]) if isinstance(images, h5py.Dataset) and images.ndim >= 3 else None


def _two_sides(value: object) -> tuple[int, int] | None:
    """Return the first two numbers of an array, None if they are not whole numbers above 0."""
    numbers = np.ravel(np.asarray(value))
    if numbers.size not in (2, 3) or numbers.dtype.kind not in "iuf" or not (numbers == np.floor(numbers)).all():
        return None
    first, second = int(numbers[0]), int(numbers[1])
    return (first, second) if min(first, second) > 0 else None


def find_frame_times(file: h5py.File, layout: Layout) -> np.ndarray:
    """Return the times of the images in a file as they are stored, empty if there are none."""
    if layout.place == "events":
        images = file.get("images")
        if isinstance(images, h5py.Group):
            found = [image for image in map(images.get, images) if image is not None]
            times = [image.attrs["timestamp"] for image in found if "timestamp" in image.attrs]
            return np.ravel(np.asarray(times))
        place = "frame_ts"
    else:
        place = "ovc/ts" if layout.camera.startswith("prophesee") else f"{layout.camera}/image_raw_ts"
    found = file.get(place)
    return np.ravel(found[()]) if isinstance(found, h5py.Dataset) else np.empty(0)


def text_of(value: object) -> str:
    """Return an attribute as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
