"""DSEC-Detection: labels of the left event camera of DSEC and seven additional sequences, 640x480 pixels.

::

    train/zurich_city_00_a/events/left/events.h5
    train/zurich_city_00_a/object_detections/left/tracks.npy
    test/thun_01_a/...

The sequences of the validation split are in the folder `train`. Times of labels are those of the images (20 Hz), in
microseconds of the clock of the images; the events are on the same clock when `t_offset` of the file is added. Boxes
are in pixels of the event camera with its lens distortion, like the events.

In the sequences of which times were published, images are 0.5 to 1.5 ms after multiples of 50 ms, which is just after
the start of a frame of 50 ms. Their labels belong to the events before them. So 2 ms are subtracted from the times of
labels, which assigns them to the previous frame.

Source: github.com/uzh-rpg/dsec-det, readme.md and config/train_val_test_split.yaml; dsec.ifi.uzh.ch/data-format; times
of images of two sequences in github.com/uzh-rpg/DSEC/issues/24 and github.com/uzh-rpg/E-RAFT/issues/2.
"""

from collections.abc import Iterator
from pathlib import Path

from detector.data.builder.source import Source
from detector.data.layouts.layout import Layout, check_found
from detector.labels import LabelTiming

__all__ = ["DSEC_DET"]

EXPECTED = "train/ and test/ with SEQUENCE/events/left/events.h5 and SEQUENCE/object_detections/left/tracks.npy"

SEQUENCES = {
    "train": (
        "interlaken_00_c interlaken_00_d interlaken_00_e interlaken_00_f interlaken_00_g thun_00_a zurich_city_00_a "
        "zurich_city_00_b zurich_city_01_a zurich_city_01_b zurich_city_01_c zurich_city_01_d zurich_city_01_e "
        "zurich_city_01_f zurich_city_02_a zurich_city_02_b zurich_city_02_c zurich_city_02_d zurich_city_02_e "
        "zurich_city_03_a zurich_city_04_a zurich_city_04_b zurich_city_04_c zurich_city_04_d zurich_city_04_e "
        "zurich_city_04_f zurich_city_05_a zurich_city_05_b zurich_city_06_a zurich_city_07_a zurich_city_08_a "
        "zurich_city_09_a zurich_city_09_b zurich_city_09_c zurich_city_09_d zurich_city_09_e zurich_city_10_a "
        "zurich_city_10_b zurich_city_11_a zurich_city_11_b zurich_city_11_c"
    ),
    "val": "zurich_city_16_a zurich_city_17_a zurich_city_18_a zurich_city_19_a zurich_city_20_a zurich_city_21_a",
    "test": (
        "interlaken_00_a interlaken_00_b interlaken_01_a thun_01_a thun_01_b thun_02_a zurich_city_12_a "
        "zurich_city_13_a zurich_city_13_b zurich_city_14_a zurich_city_14_b zurich_city_14_c zurich_city_15_a"
    ),
}
"""Names of the sequences of each published split."""

LABEL_OFFSET_US = -2_000

FOLDERS = {"train": "train", "val": "train", "test": "test"}
"""For each split, the folder that contains its sequences."""


def _find(folder: Path) -> list[Source]:
    return check_found(folder, _sources(folder), EXPECTED)


def _sources(folder: Path) -> Iterator[Source]:
    for split, names in SEQUENCES.items():
        for name in names.split():
            sequence = folder / FOLDERS[split] / name
            events = sequence / "events" / "left" / "events.h5"
            if events.is_file():
                yield Source(
                    events,
                    split=split,
                    name=name,
                    labels=sequence / "object_detections" / "left" / "tracks.npy",
                    label_format="dsec_det",
                    timing=LabelTiming("us", LABEL_OFFSET_US),
                    sensor=(480, 640),
                )


DSEC_DET = Layout(
    find=_find,
    names=dict(enumerate(("pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train"))),
    recipe="dsec_det",
    source="Gehrig and Scaramuzza, Nature 2024; github.com/uzh-rpg/dsec-det",
)
"""DSEC-Detection with its eight classes. Sequences that are missing in the folder are left out."""
