"""eTraM: traffic at fixed cameras (Prophesee EVK4, 1280x720 pixels), 10 hours by day and by night.

::

    HDF5/train_h5_1/train_day_0001_td.h5                 (or RAW/train_1/train_day_0001_td.raw)
    HDF5/train_h5_1/train_day_0001_bbox.npy              labels with three classes
    Eight_class_annotations/eight_class_annotations_train/train_day_0001_bbox.npy

The name of a recording begins with its split, so the names of the folders do not matter. HDF5 files contain
`/events/{x,y,p,t,height,width}`; two of them contain an event outside the sensor (issue 12). Times of labels and events
are in microseconds from the start of the recording.

Source: github.com/eventbasedvision/eTraM (class ids: `rvt_eTram/gen4_class_labels.py` and
`ultralytics_eTram/yolo_eTram/data.yaml`); the folders are as users of the dataset describe them.
"""

from functools import partial
from pathlib import Path

from detector.data.builder.source import Source
from detector.data.layout import SPLITS
from detector.data.layouts.layout import Layout, check_found
from detector.data.layouts.prophesee import files_in, recordings
from detector.labels import LabelTiming

__all__ = ["ETRAM", "ETRAM_EIGHT"]

EXPECTED = "recordings such as train_day_0001_td.h5 or train_day_0001_td.raw, in any subfolders, and "
EIGHT = "eight_class_annotations"
SOURCE = "Verma et al., CVPR 2024, arXiv 2403.19976; github.com/eventbasedvision/eTraM"


def _find(folder: Path, eight: bool) -> list[Source]:
    paths = {  # an HDF5 file replaces the RAW file of the same recording
        stem.name: path for suffix in (".raw", ".h5") for stem, path in recordings(folder, (suffix,)).items()
    }
    labels: dict[str, list[Path]] = {}
    for path in sorted(files_in(folder)):
        if path.name.endswith("_bbox.npy") and eight == _is_eight(path.relative_to(folder)):
            labels.setdefault(path.name, []).append(path)
    sources = [
        Source(
            path,
            split=split,
            name=name,
            labels=_choose(labels.get(f"{name}_bbox.npy", []), path.with_name(f"{name}_bbox.npy"))
            or folder / (f"{EIGHT}_{split}" if eight else "") / f"{name}_bbox.npy",
            label_format="npy",
            timing=LabelTiming("us"),
            sensor=(720, 1280),
        )
        for name, path in paths.items()
        if (split := name.partition("_")[0]) in SPLITS
    ]
    wanted = f"{EIGHT}_train/train_day_0001_bbox.npy" if eight else "train_day_0001_bbox.npy"
    return check_found(folder, sources if labels else (), EXPECTED + wanted)


def _is_eight(path: Path) -> bool:
    """Return whether a label file is in the folder of labels with eight classes, or in one of its subfolders."""
    return any(part.lower().replace(" ", "_").startswith(EIGHT) for part in path.parts[:-1])


def _choose(found: list[Path], beside: Path) -> Path | None:
    """Return the label file beside the recording, or else the only one; None if there is none.

    Raises:
        ValueError: there are several, and none of them is beside the recording.
    """
    if beside in found or len(found) < 2:
        return beside if beside in found else next(iter(found), None)
    raise ValueError(f"{found[0]} and {found[1]} are labels of the same recording, allowed: one; remove the other")


ETRAM = Layout(
    find=partial(_find, eight=False),
    names={0: "pedestrian", 1: "vehicle", 2: "micromobility"},
    recipe="etram",
    source=SOURCE,
)
"""eTraM with the three classes of its paper's benchmark."""

ETRAM_EIGHT = Layout(
    find=partial(_find, eight=True),
    names=dict(enumerate(("pedestrian", "car", "bicycle", "bus", "motorbike", "truck", "tram", "wheelchair"))),
    source=SOURCE,
)
"""eTraM with the eight classes of `Eight_class_annotations`."""
