"""Find the files of a dataset folder: tensor files or recordings, each with its split and label file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from detector.config.groups import DEFAULT_DATA, DataConfig
from detector.data.builder.plan import open_recording
from detector.data.label_map import label_map_path, read_label_map
from detector.data.layout import LABELS_END, SPLITS
from detector.data.tensor_file import read_attributes
from detector.events import EventReader
from detector.events.frames import Frames
from detector.labels import (
    FoundLabels,
    LabelTiming,
    detect_format,
    find_format,
    find_labels,
    labels_path,
    read_labels,
    recording_labels,
)
from detector.labels.find import searched_names
from detector.labels.load import join_names
from detector.utils.hdf5_file import open_hdf5

__all__ = [
    "DataFile",
    "FileContent",
    "Sensor",
    "TensorHeader",
    "find_data",
    "give_labels",
    "label_names",
    "read_tensor_header",
    "stray_labels",
]

HDF5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (*HDF5_SUFFIXES, ".dat", ".raw", ".csv", ".npy", ".npz", ".aedat4")
"""Suffixes of files that may be tensor files or recordings.

An HDF5 file can be either; this depends on its content.
"""

TABLE_SUFFIXES = (".csv", ".npy", ".txt")
"""Suffixes of tables, which may contain events or labels."""

Sensor = tuple[int | None, int | None]

EVENT_GROUPS = ("CD", "events", "davis", "prophesee", "t", "ts")
"""Names at the root of an HDF5 file that show that the file is a recording, see `containers.hdf5_layout`.

"t" and "ts" belong to files with event columns at the root, the others are datasets of events or groups with events.
"""

DTYPES = ("uint8", "int8", "float16", "float32")


@dataclass(frozen=True)
class DataFile:
    """A tensor file or a recording.

    Args:
        path: path of the file
        split: train, val or test if the folder of the file has this name, otherwise None
        is_tensor: True for a tensor file, False for a recording
        sensor: height and width in pixels, for recordings that do not state them
        timing: how the label times of a recording are determined
        data: `event_format`, `label_format` and `max_faulty_events` are used for a recording
        labels: label file or folder of a recording; if None, the labels are searched beside it
    """

    path: Path
    split: str | None
    is_tensor: bool
    sensor: Sensor = (None, None)
    timing: LabelTiming = LabelTiming()
    data: DataConfig = field(default=DEFAULT_DATA, hash=False)  # not hashable
    labels: Path | None = None

    @property
    def labels_path(self) -> Path:
        """Path of the labels, such as `X_bbox.npy` beside `X.h5`, `X.raw`, `X.dat` or `X_td.dat`.

        If there are no labels, it is the path at which labels are expected.
        """
        if self.is_tensor:
            return self.path.with_name(f"{self.path.stem}{LABELS_END}")
        return self.labels or labels_path(self.path, self.data.label_format)

    @property
    def found_labels(self) -> FoundLabels | None:
        """Path and format of the labels; None if there are no labels."""
        if self.is_tensor:
            return FoundLabels(self.labels_path, "npy") if self.labels_path.is_file() else None
        if self.labels is None:
            return find_labels(self.path, self.data.label_format)
        name = self.data.label_format
        return FoundLabels(self.labels, detect_format(self.labels) if name == "auto" else name)

    @property
    def allowed_labels(self) -> str:
        """Names of labels that this file may have, as text."""
        return self.labels_path.name if self.is_tensor else searched_names(self.path, self.data.label_format)

    @property
    def labels_suffix(self) -> str:
        """End of the name of the label file in the usual format, such as "_bbox.npy"."""
        usual = self.is_tensor or self.data.label_format == "auto"
        return LABELS_END if usual else find_format(self.data.label_format).suffix

    def open_events(self) -> EventReader:
        """Open the recording.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the format or the sensor size is unknown, or the file is broken.
        """
        return open_recording(self.path, self.sensor, self.data)

    def load_labels(self, names: Mapping[int, str] | None = None) -> np.ndarray:
        """Read and check the labels of the file.

        Args:
            names: dict from class id to name, as in `detector.labels.recording_labels`, which describes the errors.

        Returns:
            (M,) `BBOX_dtype`, sorted by t, in sensor pixels.
        """
        found = self.found_labels
        if found is None:
            raise FileNotFoundError(f"{self.labels_path}: no such label file")
        path, label_format = str(found.path), found.label_format
        if self.is_tensor or label_format == "npy":
            return recording_labels(path, label_format, timing=self.timing, names=names).boxes
        with self.open_events() as reader:
            return recording_labels(path, label_format, reader, self.timing, names).boxes

    def image_numbers(self) -> np.ndarray | None:
        """Return the numbers of the labelled images, sorted and counted from 0.

        Returns:
            (K,) int64; None if the label times do not result from image numbers and `timing.fps`, or are not readable.
        """
        found, fps = self.found_labels, self.timing.fps
        if self.is_tensor or fps is None or found is None:
            return None
        try:
            content = read_labels(str(found.path), found.label_format)
            boxes = content.boxes["t"].reshape(-1)
        except (ValueError, OSError):
            return None
        if not content.numbered:
            return None
        numbers = np.unique(np.append(boxes, content.empty).astype(np.int64))
        first = content.first_image if self.timing.first_image is None else self.timing.first_image
        return numbers - ((numbers[:1] == 1) if first is None else first)


@dataclass(frozen=True)
class TensorHeader:
    """Shape and attributes of a tensor file. Attributes that the file does not have are None unless stated otherwise.

    Args:
        shape: (T, C, H, W)
        dtype: type of the values
        preprocess: name of the preprocessing
        max_incr_per_pixel: count at which a pixel saturates
        delta_t: duration of a frame in microseconds
        first_t: time in microseconds at which frame 0 starts, 0 if it is not stored
        sensor_size: height and width of the sensor, or of a frame if the size of the sensor is not stored
        sha256: SHA-256 of the recording
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    preprocess: str | None
    max_incr_per_pixel: float | None
    delta_t: int | None
    first_t: int
    sensor_size: tuple[int, int]
    sha256: str | None

    @property
    def grid(self) -> Frames | None:
        """Time grid of the frames: start, duration and number; None if `delta_t` is None."""
        return Frames(self.first_t, self.delta_t, self.shape[0]) if self.delta_t else None


@dataclass(frozen=True)
class FileContent:
    """Properties of a file with which its labels must be consistent; None for properties that are not known.

    Args:
        sensor_size: height and width of the sensor in pixels
        grid: time grid of the frames: start, duration and number; for a recording, the duration is 50 ms
        events: times of the first and last event of a recording in microseconds
        header: header of a tensor file
    """

    sensor_size: tuple[int, int] | None = None
    grid: Frames | None = None
    events: tuple[int, int] | None = None
    header: TensorHeader | None = None


def find_data(
    path: str | Path,
    sensor: Sensor = (None, None),
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    data: DataConfig = DEFAULT_DATA,
) -> list[DataFile]:
    """Find the recordings and tensor files in a folder. If `path` is a file, return only this file.

    Args:
        path: folder with subfolders train/, val/ or test/, folder with the files themselves, or a single file.
        sensor: height and width in pixels, for recordings that do not state them.
        timing: how the label times of recordings are determined; label times of tensor files are in microseconds.
        data: formats of recordings and labels. If `data.event_format` is not "auto", recordings may have any suffix, so
            all files of a folder are included except label files and JSON files.

    Returns:
        Files sorted by split and name, without label files.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the folder contains no recording or tensor file.
    """
    path = Path(path)
    if path.is_file():
        return [_data_file(path, sensor, timing, data)]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such recording, tensor file or dataset folder")
    folders = [path / split for split in SPLITS if (path / split).is_dir()] or [path]
    files = [
        _data_file(found, sensor, timing, data)
        for folder in folders
        for found in sorted(folder.iterdir())
        if _is_candidate(found, data)
    ]
    if not files:
        raise ValueError(
            f"{path}: no recording or tensor file in it, needed: files that end in {', '.join(SUFFIXES)}, "
            f"in it or in its folders {', '.join(SPLITS)}"
        )
    return files


def give_labels(files: Sequence[DataFile], labels: str | Path | None) -> list[DataFile]:
    """Return the files with their labels set to a label file or folder. If `labels` is None, nothing is set.

    Raises:
        FileNotFoundError: the labels do not exist.
        ValueError: the files are not a single recording.
    """
    if labels is None:
        return list(files)
    if len(files) != 1 or files[0].is_tensor:
        kind = "a tensor file" if len(files) == 1 else f"{len(files)} files"
        raise ValueError(f"--labels: got {labels} for {kind}, allowed: a single recording")
    if not Path(labels).exists():
        raise FileNotFoundError(f"{labels}: no such label file")
    return [replace(files[0], labels=Path(labels))]


def label_names(files: Sequence[DataFile]) -> dict[int, str]:
    """Return the label map of files: the one beside the first file, or else the classes that the label files name.

    The dict is empty if neither exists. Label files that cannot be read are left out.
    """
    path = label_map_path(files[0].path)
    if path is not None:
        return read_label_map(path)
    contents = []
    for file in files:
        with suppress(ValueError, OSError):
            found = file.found_labels
            if found is not None and found.label_format != "npy":
                contents.append(read_labels(str(found.path), found.label_format))
    return join_names(contents)


def read_tensor_header(path: Path) -> TensorHeader:
    """Read the shape, dtype and attributes of a tensor file.

    Raises:
        ValueError: the file is not a complete tensor file.
    """
    shape, dtype, known = read_attributes(path)
    if dtype.name not in DTYPES:
        raise ValueError(f"{path}: data has dtype {dtype}, allowed: {', '.join(DTYPES)}")
    return TensorHeader(
        shape=shape,
        dtype=dtype,
        preprocess=known.get("preprocess"),
        max_incr_per_pixel=known.get("max_incr_per_pixel"),
        delta_t=known.get("delta_t"),
        first_t=int(known.get("first_t", 0)),
        sensor_size=(known.get("event_input_height", shape[2]), known.get("event_input_width", shape[3])),
        sha256=known.get("sha256"),
    )


def stray_labels(files: list[DataFile]) -> Iterator[Path]:
    """Yield label files that are in the folders of `files` but belong to none of these files."""
    beside = {labels_path(file.path, file.data.label_format) for file in files if not file.is_tensor}
    known = beside | {file.labels_path for file in files}
    for folder, suffix in dict.fromkeys((file.path.parent, file.labels_suffix) for file in files):
        yield from (path for path in sorted(folder.glob(f"*{suffix}")) if path not in known)


def _is_candidate(path: Path, data: DataConfig) -> bool:
    own = () if data.label_format == "auto" else (find_format(data.label_format).suffix,)
    if path.name.endswith((LABELS_END, *own)) or not path.is_file() or path.name.startswith("."):
        return False
    if data.event_format != "auto":
        return path.suffix != ".json"
    return path.suffix in SUFFIXES and not (path.suffix in TABLE_SUFFIXES and _is_labels(path))


def _is_labels(path: Path) -> bool:
    try:
        detect_format(path)
    except ValueError:
        return False
    return True


def _data_file(path: Path, sensor: Sensor, timing: LabelTiming, data: DataConfig) -> DataFile:
    folder, is_tensor = path.absolute().parent.name, _is_tensor(path)
    split = folder if folder in SPLITS else None
    return DataFile(path, split, is_tensor, sensor, LabelTiming() if is_tensor else timing, data)


def _is_tensor(path: Path) -> bool:
    """Return whether a file is an HDF5 file without events.

    This is also True for a damaged HDF5 file. The reader of tensor files then reports the damage.
    """
    if path.suffix not in HDF5_SUFFIXES:
        return False
    try:
        with open_hdf5(path) as file:
            return not any(name in file for name in EVENT_GROUPS)
    except (OSError, ValueError):
        return True
