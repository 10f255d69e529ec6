"""The registered model's code: MLflow copies this file beside the exported detector.

It stands alone (torch and numpy, nothing of EvLab), and no class is pickled: `mlflow.pyfunc.load_model` runs this file
and loads `model.ptjit` with `torch.jit.load`.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel

__all__ = ["COLUMNS", "EventDetector"]

COLUMNS = ("time_step", "stream", "x", "y", "width", "height", "score", "class_id")


class EventDetector(PythonModel):
    """Detects objects in clips. Every call starts from a cleared memory: calls do not depend on each other."""

    def load_context(self, context: Any) -> None:
        """Load the TorchScript file and the settings beside it."""
        import torch

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit.* is deprecated.*")
            self.model = torch.jit.load(context.artifacts["ptjit"], map_location="cpu")
        self.info = json.loads(Path(context.artifacts["info"]).read_text())

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Boxes of a clip.

        Args:
            context: unused, the model is loaded already.
            model_input: float32 frames (T, B, C, H, W), array or tensor, scaled as `info_ssd_jit.json` tells.
            params: unused.

        Returns:
            float32 (M, 8), one row a box, with the columns of `COLUMNS`: x, y is the top-left corner in pixels of the
            network's input, class_id counts the classes of `info_ssd_jit.json` from 1.
        """
        import torch

        frames = torch.as_tensor(model_input)
        if frames.dim() != 5 or frames.dtype != torch.float32:
            got = f"{tuple(frames.shape)} {frames.dtype}"
            raise ValueError(f"model_input: got {got}, allowed: float32 of shape (T, B, C, H, W)")
        self.model.reset_all()
        limits = (self.info["score_thresh"], self.info["nms_thresh"], self.info["max_boxes_per_input"])
        with torch.no_grad():
            boxes = self.model.detect(frames, *limits)
        rows = [
            torch.cat([torch.tensor([[float(t), float(b)]]).expand(len(found), 2), found], dim=1)
            for t, streams in enumerate(boxes)
            for b, found in enumerate(streams)
        ]
        return torch.cat(rows).numpy() if rows else np.zeros((0, len(COLUMNS)), np.float32)


mlflow.models.set_model(EventDetector())
