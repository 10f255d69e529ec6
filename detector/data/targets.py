"""Convert the labels of a file to training targets of its frames."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detector.data.augment import Augmentation
from detector.events.frames import Frames
from detector.utils.corners import crop_corners, is_large, to_corners

__all__ = ["TargetLoader", "scale_labels"]

MAX_GAP_US = 1_500_000
"""Longest interval in microseconds between two labelled times over which boxes are interpolated.

The lowest label rate in use is 1 Hz.
"""


@dataclass(frozen=True, eq=False)
class TargetLoader:
    """Converts the labels of a file to the targets of T consecutive frames.

    Args:
        lookup: (ids,) class 1..K of each label map id, or -1 if boxes with this id are not used. Boxes with ids beyond
            the end of the array are not used either.
        num_tbins: number T of frames.
        min_box_diag: boxes with a smaller diagonal (network pixels) are dropped.
        min_box_side: boxes with a smaller width or height (network pixels) are dropped.
        interpolation: whether frames without labels get boxes that are interpolated along tracks. Such frames count as
            labelled.
    """

    lookup: np.ndarray
    num_tbins: int
    min_box_diag: float = 30.0
    min_box_side: float = 0.0
    interpolation: bool = True

    def __call__(
        self,
        labels: np.ndarray,
        first_frame: int,
        *,
        height: int,
        width: int,
        first_t: int = 0,
        delta_t: int = 50_000,
        num_frames: int | None = None,
        scale: float = 1.0,
        augmentation: Augmentation | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Compute the targets of the frames `first_frame` to `first_frame + T - 1`.

        Frame k has the labels of the last labelled timestamp in (first_t + k * delta_t, first_t + (k+1) * delta_t]. If
        `lookup` maps all labels of this timestamp to -1, the frame counts as labelled and has no boxes. Frames with an
        index below 0 or from `num_frames` on are never labelled.

        Args:
            labels: (M,) `BBOX_dtype` of the whole file, sorted by t, in sensor pixels; not changed.
            first_frame: index of the first frame; may be negative.
            height: rows of a frame in network pixels.
            width: columns of a frame in network pixels.
            first_t: time in microseconds at which frame 0 starts.
            delta_t: duration of a frame in microseconds.
            num_frames: number of frames of the file; unlimited if None.
            scale: network pixels per sensor pixel.
            augmentation: applied to the boxes before boxes that are too small are dropped.

        Returns:
            List of T tensors (M, 5) float32, with x1, y1, x2, y2 in network pixels and class 1..K, and a (T,) bool
            tensor that states whether each frame is labelled.

        Raises:
            ValueError: a box that is used in these frames has a coordinate that is not finite, or a width or height
                below 0.
        """
        boxes, counts, labeled = self.table(
            labels, first_frame, height, width, first_t, delta_t, num_frames, scale, augmentation
        )
        return list(torch.from_numpy(boxes).split(counts)), torch.from_numpy(labeled)

    def table(
        self,
        labels: np.ndarray,
        first_frame: int,
        height: int,
        width: int,
        first_t: int,
        delta_t: int,
        num_frames: int | None,
        scale: float,
        augmentation: Augmentation | None,
    ) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Compute the targets of `__call__`, which has the same parameters, with the boxes of all frames in one array.

        Returns:
            (M, 5) boxes sorted by frame, a list with the number of boxes of each of the T frames, and a (T,) bool array
            that states whether each frame is labelled.
        """
        last_frame = first_frame + self.num_tbins if num_frames is None else num_frames
        begin, stop = np.clip([-first_frame, last_frame - first_frame], 0, self.num_tbins).tolist()
        grid = Frames(first_t + first_frame * delta_t, delta_t, self.num_tbins)
        rows, frames = grid.part(begin, stop).last_of_each_frame(labels)
        frames = frames + begin
        labeled = np.zeros(self.num_tbins, bool)
        labeled[frames] = True
        if self.interpolation:
            for frame in begin + np.flatnonzero(~labeled[begin:stop]):
                between = self._between(labels, grid.first_t + (int(frame) + 1) * delta_t)
                if between is not None:
                    labeled[frame] = True
                    rows = np.concatenate([rows, between])
                    frames = np.append(frames, np.full(len(between), frame))
        self._check(rows, first_frame + frames)
        boxes, frames = self._boxes(rows, frames, scale, height, width, augmentation)
        order = np.argsort(frames, kind="stable")
        counts = np.bincount(frames, minlength=self.num_tbins).tolist()
        return boxes[order], counts, labeled

    def _check(self, rows: np.ndarray, frames: np.ndarray) -> None:
        x, y, w, h = (rows[name] for name in ("x", "y", "w", "h"))
        bad = ~(np.isfinite(x) & np.isfinite(y) & np.isfinite(w) & np.isfinite(h) & (w >= 0) & (h >= 0))
        bad &= self._classes(rows) > 0
        if bad.any():
            row = int(np.argmax(bad))
            found = ", ".join(f"{name} {rows[name][row]:g}" for name in ("x", "y", "w", "h"))
            raise ValueError(
                f"labels: frame {frames[row]} (t {rows['t'][row]}) holds a box with {found}, "
                "allowed: finite numbers, w and h of at least 0"
            )

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        padded = np.append(self.lookup, -1)  # ids are unsigned: a -1 is a large id; ids beyond `lookup` are unwanted
        return padded[np.minimum(labels["class_id"], len(self.lookup))]

    def _boxes(
        self,
        rows: np.ndarray,
        frames: np.ndarray,
        scale: float,
        height: int,
        width: int,
        augmentation: Augmentation | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Convert label rows to (M, 5) boxes in network pixels, and return the boxes and the frame of each box.

        Boxes that are too small, and boxes of classes that are not used, are dropped.
        """
        corners = crop_corners(to_corners(rows, np.float32) * scale, height, width)
        table = np.column_stack([corners, self._classes(rows), frames]).astype(np.float32)
        table = table[(table[:, 4] > 0) & (table[:, 2:4] > table[:, :2]).all(axis=1)]
        if augmentation is not None:
            table = augmentation.boxes(table)
        w, h = (table[:, 2:4] - table[:, :2]).T
        table = table[is_large(w, h, self.min_box_diag, self.min_box_side)]
        return table[:, :5], table[:, 5].astype(np.int64)

    def _between(self, labels: np.ndarray, t: int) -> np.ndarray | None:
        """Interpolate boxes linearly at time t, between the last labelled time before t and the first one after t.

        Return None in four cases: one of the two times is missing, they are too far apart, a track has two boxes at the
        same time, or the tracks at the two times differ, so that an object appeared or disappeared in between.
        """
        times = labels["t"]
        last, first = np.searchsorted(times, t, side="left") - 1, np.searchsorted(times, t, side="right")
        if last < 0 or first == len(times) or times[first] - times[last] > MAX_GAP_US:
            return None
        before = self._tracks(labels[np.searchsorted(times, times[last], side="left") : last + 1])
        after = self._tracks(labels[first : np.searchsorted(times, times[first], side="right")])
        ids = before["track_id"]
        same = np.array_equal(ids, after["track_id"]) and np.array_equal(before["class_id"], after["class_id"])
        if not same or (ids[1:] == ids[:-1]).any():
            return None
        ratio = np.float32((t - times[last]) / (times[first] - times[last]))
        boxes = before.copy()
        boxes["t"] = t
        for name in ("x", "y", "w", "h"):
            boxes[name] += (after[name] - before[name]) * ratio
        return boxes

    def _tracks(self, labels: np.ndarray) -> np.ndarray:
        wanted = labels[self._classes(labels) > 0]
        return wanted[np.argsort(wanted["track_id"], kind="stable")]


def scale_labels(labels: np.ndarray, scale: float, height: int, width: int) -> np.ndarray:
    """Scale labels to network pixels and crop them to the frame. Boxes outside the frame are kept, but have no area.

    Args:
        labels: (M,) `BBOX_dtype` in sensor pixels; not changed.
        scale: network pixels per sensor pixel.
        height: rows of a frame in network pixels.
        width: columns of a frame in network pixels.

    Returns:
        (M,) `BBOX_dtype`, in the order of `labels`.
    """
    x1, y1, x2, y2 = crop_corners(to_corners(labels, np.float32) * scale, height, width).T
    scaled = labels.copy()
    for name, values in {"x": x1, "y": y1, "w": (x2 - x1).clip(0), "h": (y2 - y1).clip(0)}.items():
        scaled[name] = values
    return scaled
