"""Datasets that were preprocessed for RVT (Gehrig and Scaramuzza, CVPR 2023): tensors instead of recordings.

::

    train/SEQUENCE/event_representations_v2/stacked_histogram_dt=50_nbins=10/event_representations.h5
                                              data (T, 20, H, W) uint8; event_representations_ds2_nearest.h5 for 1 Mpx
                                            .../timestamps_us.npy             (T,) end of each frame
                                            .../objframe_idx_2_repr_idx.npy   (F,) frame of each labelled time
    train/SEQUENCE/labels_v2/labels.npz       labels: boxes in pixels of the sensor; objframe_idx_2_label_idx: (F,)
                                              first box of each labelled time

They become tensor files of the representation `stacked_histo` with 10 micro-bins, whose order of channels is the same
(polarity, then micro-bin). Counts are clipped to 10, as in RVT's `stacked_hist.yaml`.

The frames differ from those that EvForge makes from the recordings: micro-bins divide the time between the first and
the last event of a frame; frames of 1 Mpx contain every second pixel of the sensor, not sums of 2 x 2 pixels; and their
ends follow the times of the labels, which deviate from multiples of 50 ms by some milliseconds. Labels get the time of
the end of their frame. Labels that RVT removed are missing: small boxes of Gen1, the other classes of 1 Mpx, and times
between those of the frames.

Source: github.com/uzh-rpg/RVT, `data/genx_utils/sequence_base.py` and `scripts/genx`.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from tqdm import tqdm

from detector.config.groups import DataConfig
from detector.data.label_map import LABEL_MAP_NAME
from detector.data.layout import LABELS_END, SPLITS
from detector.data.layouts.layout import Layout
from detector.data.layouts.prophesee import GEN1, ONE_MEGAPIXEL
from detector.data.tensor_file import create_tensors, read_attributes, write_frames
from detector.labels import save_labels
from detector.labels.boxes import to_boxes
from detector.preprocess.representation import representation_of
from detector.utils.atomic_write import atomic_write
from detector.utils.checksum import sha256_of
from detector.utils.hdf5_file import open_hdf5

__all__ = ["RVT_GEN1", "RVT_ONE_MEGAPIXEL"]

REPRESENTATION = "event_representations_v2/stacked_histogram_dt=50_nbins=10"
"""Folder of the tensors in the folder of a sequence."""

DATA = DataConfig(preprocess="stacked_histo", num_utbins=10, max_incr_per_pixel=10, delta_t=50_000)
"""Settings that describe the tensors."""

FRAMES_AT_ONCE = 8


class Kind(NamedTuple):
    """One of the two datasets.

    Args:
        file: name of the file with the tensors
        sensor: height and width of the sensor
        downsampling: exponent k; a frame has the height and width of the sensor divided by 2^k
    """

    file: str
    sensor: tuple[int, int]
    downsampling: int

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of a frame."""
        height, width = (side >> self.downsampling for side in self.sensor)
        return 2 * DATA.num_utbins, height, width


def _converter(kind: Kind, names: Mapping[int, str]) -> Callable[[Path, Path, bool], None]:
    return partial(_convert, kind=kind, names=names)


def _convert(folder: Path, output: Path, progress: bool, kind: Kind, names: Mapping[int, str]) -> None:
    """Write the dataset folder `output`. Tensor files that were made from the same file before are kept."""
    sequences = sorted(
        path for split in SPLITS for path in folder.glob(f"{split}/*") if (path / REPRESENTATION).is_dir()
    )
    if not sequences:
        expected = (
            f"train/, val/ and test/ with SEQUENCE/{REPRESENTATION}/{kind.file} and SEQUENCE/labels_v2/labels.npz"
        )
        raise FileNotFoundError(f"{folder}: no sequences of this layout, expected: {expected}")
    output.mkdir(parents=True, exist_ok=True)
    with atomic_write(output / LABEL_MAP_NAME) as part:
        part.write_text(json.dumps({str(key): name for key, name in names.items()}), encoding="utf-8")
    for sequence in tqdm(sequences, unit="sequence", desc="convert", disable=not progress or None):
        target = output / sequence.parent.name / f"{sequence.name}.h5"
        target.parent.mkdir(exist_ok=True)
        _convert_sequence(sequence, target, kind)


def _convert_sequence(sequence: Path, target: Path, kind: Kind) -> None:
    tensors = sequence / REPRESENTATION / kind.file
    if not tensors.is_file():
        raise FileNotFoundError(f"{tensors}: no such file of tensors")
    first_t, boxes = _read_labels(sequence)
    attributes = {**_attributes(kind), "first_t": first_t, "sha256": sha256_of(tensors)}
    if target.is_file() and read_attributes(target)[2].get("sha256") == attributes["sha256"]:
        save_labels(target.with_name(f"{target.stem}{LABELS_END}"), boxes)
        return
    with open_hdf5(tensors) as source, atomic_write(target) as part:
        frames = _checked(tensors, source.get("data"), kind)
        with h5py.File(part, "w", locking=False) as file:  # `atomic_write` holds a lock on it
            data = create_tensors(file, frames.shape, np.uint8)
            data.attrs.update(attributes)
            for begin in range(0, len(frames), FRAMES_AT_ONCE):
                write_frames(data, begin, np.minimum(frames[begin : begin + FRAMES_AT_ONCE], DATA.max_incr_per_pixel))
        save_labels(target.with_name(f"{target.stem}{LABELS_END}"), boxes)


def _read_labels(sequence: Path) -> tuple[int, np.ndarray]:
    """Return the start of the first frame in microseconds, and the boxes at the ends of their frames."""
    folder = sequence / REPRESENTATION
    path = sequence / "labels_v2" / "labels.npz"
    try:
        ends, frame_of_time = np.load(folder / "timestamps_us.npy"), np.load(folder / "objframe_idx_2_repr_idx.npy")
        with np.load(path) as file:
            labels, first_box = file["labels"], file["objframe_idx_2_label_idx"]
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy raises any error for a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{sequence}: damaged or incomplete labels or times ({reason}), download it again") from None
    if len(first_box) != len(frame_of_time) or (len(frame_of_time) and frame_of_time.max() >= len(ends)):
        raise ValueError(
            f"{path}: labels of {len(first_box)} times, expected: {len(frame_of_time)} of {len(ends)} frames"
        )
    boxes = to_boxes(labels, str(path))
    counts = np.diff(first_box, append=len(boxes))
    if (counts < 0).any() or counts.sum() != len(boxes) or (frame_of_time < 0).any():
        raise ValueError(f"{path}: the labelled times do not contain each box once, expected: increasing indices")
    first_t = max(0, int(ends[0]) - DATA.delta_t) // DATA.delta_t * DATA.delta_t if len(ends) else 0
    boxes["t"] = first_t + (np.repeat(frame_of_time, counts) + 1) * DATA.delta_t
    return first_t, boxes


def _checked(path: Path, data: Any, kind: Kind) -> h5py.Dataset:
    """Return the dataset `data` of a file, or raise an error if it does not contain frames of this kind."""
    shape = data.shape if isinstance(data, h5py.Dataset) else ()
    if shape[1:] != kind.frame_shape or data.dtype != np.uint8:
        raise ValueError(
            f"{path}: data has shape {shape}, expected: uint8 (T, {', '.join(map(str, kind.frame_shape))})"
        )
    properties = data.id.get_create_plist()
    for number in (properties.get_filter(index)[0] for index in range(properties.get_nfilters())):
        if not _available(number):
            raise ValueError(f"{path}: compressed by HDF5 filter {number}, which is missing: pip install hdf5plugin")
    return data


def _available(number: int) -> bool:
    with suppress(ImportError):
        if not h5py.h5z.filter_avail(number):
            import hdf5plugin  # noqa: F401  # importing it registers its filters
    return bool(h5py.h5z.filter_avail(number))


def _attributes(kind: Kind) -> dict[str, Any]:
    representation = representation_of(DATA)
    return {
        "preprocess": DATA.preprocess,
        "preprocess_params": json.dumps({"downsampling_factor": kind.downsampling, **representation.parameters}),
        "max_incr_per_pixel": float(DATA.max_incr_per_pixel),
        "divisor": float(representation.divisor),
        "delta_t": DATA.delta_t,
        "event_input_height": kind.sensor[0],
        "event_input_width": kind.sensor[1],
    }


GEN1_KIND = Kind("event_representations.h5", (240, 304), 0)
ONE_MEGAPIXEL_KIND = Kind("event_representations_ds2_nearest.h5", (720, 1280), 1)
SOURCE = "Gehrig and Scaramuzza, CVPR 2023; github.com/uzh-rpg/RVT"

RVT_GEN1 = Layout(convert=_converter(GEN1_KIND, GEN1.names), names=GEN1.names, recipe="rvt_gen1", source=SOURCE)
"""Gen1 as RVT's archive gen1.tar."""

RVT_ONE_MEGAPIXEL = Layout(
    convert=_converter(ONE_MEGAPIXEL_KIND, ONE_MEGAPIXEL.names),
    names=ONE_MEGAPIXEL.names,
    recipe="rvt_1mpx",
    source=SOURCE,
)
"""1 Megapixel at half its size as RVT's archive gen4.tar, with the classes pedestrian, two wheeler and car."""
