"""`Predictor`, which runs a trained detector on streams of events and keeps its state between frames."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.config.checks import require, require_equal
from detector.config.groups import DataConfig
from detector.data.dataset import scale_inputs
from detector.events import BBOX_dtype, EventReader
from detector.events.arrays import Columns
from detector.events.framing import divide_into_frames
from detector.export.bundle import load_exported
from detector.export.form import INFO_NAME
from detector.preprocess import histo
from detector.preprocess.representation import Representation, representation_of

__all__ = ["Events", "Frame", "Predictor"]

Events = EventReader | Iterable[np.ndarray]
"""A recording, or `EventCD` chunks of any length. Faulty events are corrected as far as possible during reading."""

MAX_DOWNSAMPLING = 4
"""Largest `downsampling`. With this value, the sensor size is divided by 2^4."""


class Frame(NamedTuple):
    """Detections of a frame.

    Args:
        t: end of the frame in microseconds
        boxes: (M,) `BBOX_dtype` boxes with the time t, in sensor pixels, by descending score
        histogram: (2, H, W) uint8 number of OFF and ON events in each pixel of the network's input if requested,
            otherwise an empty array. The array is overwritten when later frames are computed
    """

    t: int
    boxes: np.ndarray
    histogram: np.ndarray


class Predictor:
    """Runs an exported detector on events, with the same preprocessing as in training.

    The recurrent state is cleared when a stream starts and is kept until the stream ends. The predictor needs memory
    for the events of one frame per stream and for the tensors of `num_tbins` frames.

    Args:
        model: exported model file (`model.ptjit`) with `info_ssd_jit.json` beside it, or the folder of both.
        score_thresh: lowest score of a box; if None, the threshold stored in `info_ssd_jit.json`.
        height: sensor height in pixels. Needed for chunks of events, not for recordings.
        width: sensor width in pixels. Needed for chunks of events, not for recordings.
        downsampling: exponent k. The network's input has the size of the sensor divided by 2^k. If None, k is selected
            such that this size is the frame size of the training.
        num_tbins: number of frames of a stream that enter the network at once; 1 has the lowest latency.
        device: device to run on. If None, the first GPU; the CPU if there is no GPU or the model only runs on CPUs.

    Attributes:
        classes: dict from the class ids of the label map to the names of the detected classes.
        delta_t: duration of a frame in microseconds.
        score_thresh: lowest score of a box.

    Raises:
        FileNotFoundError: the model file or `info_ssd_jit.json` is missing.
        ValueError: the files do not belong together or are invalid, or an argument is outside its range.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        score_thresh: float | None = None,
        height: int | None = None,
        width: int | None = None,
        downsampling: int | None = None,
        num_tbins: int = 1,
        device: str | None = None,
    ) -> None:
        self._model, info, self._device = load_exported(model, device)
        try:
            self._read(info)
        except KeyError as error:
            raise ValueError(f"{model}: {INFO_NAME} lacks {error}, export the model again") from None
        self.score_thresh = self._exported_thresh if score_thresh is None else score_thresh
        require(0 <= self.score_thresh <= 1, "score_thresh", score_thresh, "a number from 0 to 1")
        require(num_tbins >= 1, "num_tbins", num_tbins, "at least 1")
        allowed = f"0 to {MAX_DOWNSAMPLING}"
        require(downsampling is None or 0 <= downsampling <= MAX_DOWNSAMPLING, "downsampling", downsampling, allowed)
        self.height, self.width = height, width
        self._downsampling, self._num_tbins = downsampling, num_tbins
        self._run: object = None

    def _read(self, info: Mapping[str, Any]) -> None:
        stored = info["preprocess_params"]
        settings = {field.name: stored[field.name] for field in fields(DataConfig) if field.name in stored}
        data = DataConfig(preprocess=info["preprocess"], delta_t=info["delta_t"], **settings)
        self._representation = found = representation_of(data)
        now = {"channels": found.channels, **found.parameters}
        for name, value in {"channels": info["in_channels"], **stored}.items():
            require_equal(Path(INFO_NAME), name, value, now.get(name), f"data.preprocess {data.preprocess}")
        self._divisor = info["normalisation"]["divisor_of_counts"]
        self._trained_size = info["height"], info["width"]
        self._exported_thresh = float(info["score_thresh"])
        self._limits = float(info["nms_thresh"]), int(info["max_boxes_per_input"])
        ids = {name: int(key) for key, name in info["label_map"].items()}
        self.classes = {ids[name]: name for name in info["classes"]}
        self._class_ids = np.array([0, *self.classes], np.uint32)
        self.delta_t = data.delta_t

    def __call__(self, events: Events) -> Iterator[np.ndarray]:
        """Detect objects in one stream: `for boxes in predictor(events)`.

        Args:
            events: a recording (`EventReader`), or an iterable of `EventCD` arrays of any length ("chunks").

        Returns:
            Iterator over one `BBOX_dtype` array per frame, as in `Frame.boxes`. The array is empty if no object is
            detected.

        Raises:
            ValueError: the sensor size is unknown or not allowed, events are invalid, or the predictor has started to
                process other streams in the meantime.
        """
        return (frame.boxes for (frame,) in self.frames([events]) if frame is not None)

    def frames(self, streams: Sequence[Events], histograms: bool = False) -> Iterator[list[Frame | None]]:
        """Detect objects in several streams together, in one batch.

        Args:
            streams: B streams. Each stream is a recording or an iterable of chunks, as in `__call__`.
            histograms: whether to compute `Frame.histogram`.

        Returns:
            Iterator over lists of B frames. List k contains frame k of each stream, even if the frames of the streams
            have different times. Streams that have ended have None in the list.

        Raises:
            ValueError: a sensor size is unknown or not allowed, events are invalid, or the predictor has started to
                process other streams in the meantime.
        """
        prepared = [self._stream(events) for events in streams]
        sizes = {stream.size for stream in prepared}
        if len(sizes) != 1:
            raise ValueError(f"streams: got frames of (height, width) {sorted(sizes)}, allowed: frames of one size")
        return self._advance(prepared, sizes.pop(), histograms)

    def sensor_size(self, events: Events) -> tuple[int, int]:
        """Return the height and width in pixels of the sensor that recorded the events."""
        if isinstance(events, EventReader):
            return events.height, events.width
        if self.height is None or self.width is None:
            raise ValueError(
                "height, width: got none, allowed: the sensor's size, which chunks of events do not contain"
            )
        return self.height, self.width

    def downsampling(self, height: int, width: int) -> int:
        """Return the exponent k for a sensor of this size. Frames have the size of the sensor divided by 2^k.

        Raises:
            ValueError: the sensor size is not divisible by 2^k, or no k gives the frame size of the training.
        """
        powers = [k for k in range(MAX_DOWNSAMPLING + 1) if not (height | width) % (1 << k)]
        if self._downsampling in powers:
            return self._downsampling
        for k in powers if self._downsampling is None else ():
            if (height >> k, width >> k) == self._trained_size:
                return k
        sizes = ", ".join(f"{k} for {height >> k} x {width >> k}" for k in powers)
        trained = " x ".join(map(str, self._trained_size))
        raise ValueError(
            f"downsampling: got {self._downsampling} for a sensor of {height} x {width}, "
            f"the model was trained on frames of {trained}, allowed: {sizes}"
        )

    def _stream(self, events: Events) -> "_Stream":
        height, width = self.sensor_size(events)
        frames = divide_into_frames(events, self.delta_t, height=height, width=width)
        return _Stream(frames, self.delta_t, self._representation, (height, width), self.downsampling(height, width))

    def _advance(self, streams: Sequence["_Stream"], size: tuple[int, int], histograms: bool) -> Iterator[list]:
        run = self._run = object()
        self._model.reset_all()
        shape = self._num_tbins, len(streams)
        tensors = self._representation.empty(*shape, self._representation.channels, *size)
        counts = np.empty((*shape, 2, *size) if histograms else (*shape, 0), np.uint8)
        while True:
            ends = [stream.fill(tensors[:, b], counts[:, b]) for b, stream in enumerate(streams)]
            length = max(map(len, ends))
            if not length:
                return
            if self._run is not run:
                raise ValueError(
                    "predictor: got another stream in the meantime, allowed: streams together, by frames()"
                )
            rows = self._detect(tensors[:length])
            for t in range(length):
                yield [
                    Frame(ends[b][t], self._to_boxes(rows[t][b], ends[b][t], stream), counts[t, b])
                    if t < len(ends[b])
                    else None
                    for b, stream in enumerate(streams)
                ]

    def _detect(self, tensors: np.ndarray) -> list[list[Tensor]]:
        values = torch.from_numpy(tensors).to(self._device)
        with torch.inference_mode():
            inputs = scale_inputs({"inputs": values, "divisor": self._divisor})["inputs"]
            return self._model.detect(inputs, self.score_thresh, *self._limits)

    def _to_boxes(self, rows: Tensor, end: int, stream: "_Stream") -> np.ndarray:
        """Convert (M, 6) output rows of the model to `BBOX_dtype` boxes in sensor pixels with the time `end`."""
        values = rows.float().cpu().numpy()
        boxes = np.zeros(len(values), BBOX_dtype)
        boxes["t"] = end
        for name, column in zip("xywh", values.T, strict=False):
            boxes[name] = column * (1 << stream.downsampling)
        boxes["class_confidence"] = values[:, 4]
        boxes["class_id"] = self._class_ids[values[:, 5].astype(np.int64)]
        return boxes


class _Stream:
    """One of the streams in a batch. Computes frames of the network's size from the events of the stream."""

    def __init__(
        self,
        frames: Iterator[tuple[int, Columns]],
        delta_t: int,
        representation: Representation,
        sensor: tuple[int, int],
        downsampling: int,
    ) -> None:
        self.downsampling = downsampling
        self.size = sensor[0] >> downsampling, sensor[1] >> downsampling
        self._frames, self._delta_t = frames, delta_t
        self._fill = representation.fill

    def fill(self, out: np.ndarray, counts: np.ndarray) -> list[int]:
        """Compute the next T frames of the stream.

        Args:
            out: (T, C, H, W) array, overwritten by the frames.
            counts: (T, 2, H, W) array, overwritten by the number of events of each frame, polarity and pixel. If the
                array is empty, events are not counted.

        Returns:
            End times of the computed frames in microseconds. If the stream ends, the list has fewer than T items, and
            the rest of `out` is filled with 0.
        """
        ends: list[int] = []
        for t, (start, columns) in enumerate(islice(self._frames, len(out))):
            self._fill(columns, out[t : t + 1], self._delta_t, self.downsampling)
            if counts.size:
                histo(columns, counts[t : t + 1], self._delta_t, self.downsampling)
            ends.append(start + self._delta_t)
        out[len(ends) :] = 0
        return ends
