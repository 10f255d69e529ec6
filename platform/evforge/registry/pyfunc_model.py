"""Code of the registered model: MLflow copies this file beside the exported detector.

No class is pickled: `mlflow.pyfunc.load_model` runs this file and loads `model.ptjit` with `torch.jit.load`. Detection
in tensors needs only torch, numpy and pandas. Detection in recordings also needs the package `detector`.
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel

__all__ = ["COLUMNS", "EventDetector"]

COLUMNS = {
    "clip": np.int64,
    "stream": np.int64,
    "t": np.int64,
    "x": np.float32,
    "y": np.float32,
    "w": np.float32,
    "h": np.float32,
    "score": np.float32,
    "class_id": np.int64,
    "class": object,
}


class EventDetector(PythonModel):
    """Detects objects in clips and recordings. The recurrent state is cleared before each clip and each recording."""

    def load_context(self, context: Any) -> None:
        """Load the TorchScript file and the settings beside it."""
        import torch

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit.* is deprecated.*")
            self.model = torch.jit.load(context.artifacts["ptjit"], map_location="cpu")
        self.info = json.loads(Path(context.artifacts["info"]).read_text())
        self._file = context.artifacts["ptjit"]

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Detect boxes in clips and recordings.

        Args:
            context: not used, the model is loaded already.
            model_input: one row per clip or recording, with a value in exactly one of two columns. `frames` contains
                numbers (T, B, C, H, W), scaled as `info_ssd_jit.json` states. `recording` contains the path of an event
                file.
            params: not used.

        Returns:
            One row per box, with the columns of `COLUMNS`. `clip` is the row number in `model_input`. `stream` is the
            index in the batch. `t` is the end of the frame in microseconds; it is a time of the recording, or counted
            from the start of `frames`. `x` and `y` are the top-left corner, `w` and `h` the size, in pixels of the
            sensor or of `frames`. `class_id` and `class` are the id and the name in the label map.

        Raises:
            ValueError: a row has values in both columns or in no column, or `frames` has another shape.
            ImportError: a row has a recording and `detector` is not installed.
        """
        rows = [row for clip, given in enumerate(model_input.to_dict("records")) for row in self._rows(clip, given)]
        values = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
        return pd.DataFrame(
            {name: pd.Series(column, dtype=kind) for (name, kind), column in zip(COLUMNS.items(), values, strict=True)}
        )

    def _rows(self, clip: int, given: dict[str, Any]) -> Iterator[tuple]:
        found = {key: given[key] for key in ("frames", "recording") if _is_there(given.get(key))}
        if len(found) != 1:
            got = " and ".join(found) or "none of them"
            raise ValueError(f"row {clip} of the input: got {got}, allowed: either frames or recording")
        boxes = self._of_frames(found["frames"]) if "frames" in found else self._of_recording(found["recording"])
        names = self.info["label_map"]
        return ((clip, *row, class_id, names[str(class_id)]) for *row, class_id in boxes)

    def _of_frames(self, frames: Any) -> Iterator[tuple]:
        import torch

        values = torch.as_tensor(np.asarray(frames, np.float32))
        channels = self.info["in_channels"]
        if values.dim() != 5 or values.size(2) != channels:
            raise ValueError(f"frames: got shape {tuple(values.shape)}, allowed: (T, B, {channels}, H, W)")
        ids = {name: int(key) for key, name in self.info["label_map"].items()}
        classes = [ids[name] for name in self.info["classes"]]
        self.model.reset_all()
        with torch.no_grad():
            limits = (self.info["score_thresh"], self.info["nms_thresh"], self.info["max_boxes_per_input"])
            steps = self.model.detect(values, *limits)
        for t, streams in enumerate(steps):
            for b, rows in enumerate(streams):
                for *row, label in rows.tolist():
                    yield b, (t + 1) * self.info["delta_t"], *row, classes[int(label) - 1]

    def _of_recording(self, path: str) -> Iterator[tuple]:
        try:
            from detector.events import open_events
            from detector.inference.predictor import Predictor
        except ImportError as error:
            raise ImportError(f"recording: reading {path} needs the package `detector` of EvForge: {error}") from None
        with open_events(path) as events:
            for boxes in Predictor(self._file)(events):
                for t, x, y, w, h, score, class_id in boxes[
                    ["t", "x", "y", "w", "h", "class_confidence", "class_id"]
                ].tolist():
                    yield 0, t, x, y, w, h, score, class_id


def _is_there(value: Any) -> bool:
    """Return True if a cell of the table has a value. pandas stores None or NaN in empty cells."""
    return value is not None and not (isinstance(value, float) and np.isnan(value))


mlflow.models.set_model(EventDetector())
