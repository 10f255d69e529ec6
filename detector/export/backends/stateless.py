"""The detector as a stateless function that computes boxes, scores and the next state from a frame and a state.

File formats without mutable attributes need this function. It is limited to one stream, one time step and one frame
size. The caller keeps the state; `StepRunner` does this.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from detector.config.checks import require
from detector.export.ssd import SSD
from detector.layers.recurrent import stateful_modules
from detector.matching.decoding import decode_boxes, select_rows
from detector.matching.nms import non_max_suppression

__all__ = ["Step", "StepModule", "StepRunner"]

Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, Tensor, list[Tensor]]]
"""Function with the arguments and results of `StepModule.forward`."""


class StepModule(nn.Module):
    """Computes one time step of one stream, without keeping a state between calls.

    Args:
        ssd: the detector. It is copied.
        height: height of the frames in pixels.
        width: width of the frames in pixels.

    Attributes:
        example: example inputs of `forward`, namely a frame of zeros and the initial state of a stream.
    """

    def __init__(self, ssd: SSD, height: int, width: int) -> None:
        super().__init__()
        self.ssd = copy.deepcopy(ssd)
        self.ssd.reset_all()
        self.height, self.width = height, width
        frame = torch.zeros(1, ssd.in_channels, height, width)
        with torch.no_grad():
            features = self.ssd.feature_extractor(frame.to(ssd.precision.dtype))
            self.grid = nn.Buffer(self.ssd.anchors(features, frame).clone())
        self._counts = [len(module.state) for module in stateful_modules(self.ssd)]
        self.example = frame, [torch.zeros(s.shape) for module in stateful_modules(self.ssd) for s in module.state]
        self.ssd.reset_all()

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Compute the boxes and scores of a frame, and the next state of the stream.

        Args:
            x: (1, C, H, W) frame.
            state: list of state tensors that the last call returned; zeros for a new stream.

        Returns:
            Boxes (1, A, 4) x1, y1, w, h in pixels, cropped to the frame; scores (1, A, K) of the classes 1..K; the
            next state. Inputs and outputs must be float32 and contiguous; AOTInductor files do not check this.
        """
        modules, first = stateful_modules(self.ssd), 0
        for module, count in zip(modules, self._counts, strict=True):
            module.state = state[first : first + count]
            first += count
        features = self.ssd.feature_extractor(x.to(self.ssd.precision.dtype))
        loc, logits = self.ssd.predict(features)
        after = [s.float().contiguous() for module in modules for s in module.state]
        self.ssd.reset_all()  # exporters require that attributes are unchanged
        boxes = decode_boxes(self.grid, loc, self.ssd.varx, self.ssd.vary, self.height, self.width)
        return boxes, self.ssd.scores(logits), after


class StepRunner:
    """Runs an exported `StepModule` on batches of clips, and keeps the state of each stream.

    `forward`, `detect`, `reset` and `reset_all` have the same arguments and results as in `detector.jitting.SSD`.

    Args:
        step: the exported function, called as `boxes, scores, next_state = step(frame, state)`.
        info: content of `info_ssd_jit.json`.
    """

    def __init__(self, step: Step, info: Mapping[str, Any]) -> None:
        self._step = step
        self._frame = (info["in_channels"], info["height"], info["width"])
        self._start = [torch.zeros(shape) for shape in info["state_shapes"]]
        self._states: list[list[Tensor]] = []

    def forward(self, x: Tensor, score_thresh: float = 0.4) -> list[list[Tensor]]:
        """Compute the boxes of frames (T, B, C, H, W). Like `SSD.forward`, this applies no non-maximum suppression.

        Raises:
            ValueError: the frames do not have the exported shape.
        """
        return self._rows(x, score_thresh, score_thresh < 0)

    __call__ = forward

    @torch.no_grad()
    def _rows(self, x: Tensor, score_thresh: float, keep_empty: bool) -> list[list[Tensor]]:
        require(x.shape[2:] == self._frame, "x: frame shape", tuple(x.shape[2:]), f"the exported one, {self._frame}")
        if len(self._states) != x.shape[1]:
            self._states = [self._start] * x.shape[1]
        frames = x.float().contiguous()
        return [
            [self._advance(b, frame[b : b + 1], score_thresh, keep_empty) for b in range(len(frame))]
            for frame in frames
        ]

    def detect(
        self, x: Tensor, score_thresh: float = 0.4, nms_thresh: float = 0.5, max_boxes: int = 500
    ) -> list[list[Tensor]]:
        """Compute the boxes of frames (T, B, C, H, W) with non-maximum suppression, as in `SSD.detect`."""
        steps = self._rows(x, score_thresh, True)
        return [[non_max_suppression(rows, nms_thresh, max_boxes) for rows in streams] for streams in steps]

    def reset(self, mask: Tensor) -> None:
        """Clear the state of each stream whose value in `mask` (B,) is 0."""
        if len(mask) == len(self._states):  # otherwise the next call clears all states
            self._states = [s if keep else self._start for s, keep in zip(self._states, mask.tolist(), strict=True)]

    def reset_all(self) -> None:
        """Clear the state of all streams."""
        self._states = []

    def _advance(self, stream: int, x: Tensor, score_thresh: float, keep_empty: bool) -> Tensor:
        boxes, scores, self._states[stream] = self._step(x, self._states[stream])
        return select_rows(boxes, scores, score_thresh, 1, keep_empty)[0][0]
