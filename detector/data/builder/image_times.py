"""Compare the duration of labels that are numbered by image with the duration of the recording."""

import math

import numpy as np

from detector.labels import FoundLabels, LabelTiming, read_labels

__all__ = ["image_times_note"]

SHORT, LONG = 0.9, 1.05
"""Shares of the recording between which the duration of the labelled images needs no note."""


def image_times_note(
    labels: np.ndarray, found: FoundLabels, timing: LabelTiming, events: tuple[int, int]
) -> tuple[str, ...]:
    """Return a note if images at the frame rate `timing.fps` end long before or after the recording.

    Args:
        labels: (M,) `BBOX_dtype` of the recording, sorted by t.
        found: the label file or folder.
        timing: how the label times were determined.
        events: times of the first and last event in microseconds.

    Returns:
        One text; none if the labels have times, or if the duration of the images fits that of the recording.
    """
    if timing.fps is None or not labels.size or not read_labels(str(found.path), found.label_format).numbered:
        return ()
    first_t, last_t = events
    # The first image is at most 1 / fps before the first event. The small number compensates rounded times.
    images = max(1, math.ceil((int(labels["t"][-1]) - timing.offset - first_t) * timing.fps / 1e6 - 1e-3) + 1)
    covered, length = images / timing.fps, (last_t - first_t) / 1e6
    if length <= 0 or SHORT * length <= covered <= LONG * length:
        return ()
    return (
        f"{images:,} images at {timing.fps:g} per second cover {covered:.1f} s of {length:.1f} s; if the labels cover "
        f"the whole recording, the frame rate is about {images / length:.3g}: give --label_fps",
    )
