"""Anchor boxes on a pyramid of grids: encode labels as training targets, decode predictions to boxes."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from detector.box import assign_priors, bbox_to_deltas, box_clamp, deltas_to_bbox, force_matches
from detector.config.checks import require
from detector.config.groups import AnchorConfig
from detector.matching.assignment import AnchorGrid, pack_frames
from detector.matching.encoding import EncodeRule, encode_boxes
from detector.matching.nms import best_scores, suppress
from detector.utils.modes import usable_in_this_mode

__all__ = ["ANCHOR_LISTS", "AnchorLayer", "Anchors", "anchor_pairs"]

ANCHOR_LISTS: dict[str, list[tuple[float, float]]] = {
    "PSEE_ANCHORS": [(1 / 3, 1.0), (0.5, 1.0), (1.0, 1.0), (1.0, 1.5), (2.0, 1.0), (3.0, 1.0)],
    "COCO_ANCHORS": [(ratio, 2 ** (octave / 3)) for ratio in (0.5, 1.0, 2.0) for octave in (0, 1, 2)],
}
"""Named lists of (ratio = height / width, scale) pairs."""

Detections = dict[str, Tensor]


def anchor_pairs(anchor_list: str | Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (ratio, scale) pairs of `anchor_list`, which is a name in `ANCHOR_LISTS` or a list of pairs."""
    pairs = ANCHOR_LISTS[anchor_list] if isinstance(anchor_list, str) else anchor_list
    return [(float(ratio), float(scale)) for ratio, scale in pairs]


class AnchorLayer(nn.Module):
    """Anchors of one pyramid level: the same shapes around the centre of every cell.

    The anchors are cached until the size of the feature map, the stride or the device changes.

    Args:
        box_size: side in pixels of the anchor with ratio 1 and scale 1
        anchor_list: (ratio = height / width, scale) pairs
    """

    def __init__(
        self,
        box_size: float = 32,
        anchor_list: Sequence[tuple[float, float]] = ANCHOR_LISTS["PSEE_ANCHORS"],
    ) -> None:
        super().__init__()
        # These tensors are not buffers, because `half()` would round them, and checkpoints do not need them.
        self.sizes = self.generate_anchors(box_size, anchor_list)
        self.num_anchors = len(anchor_list)
        self.grid = torch.zeros(0, 0, self.num_anchors, 4)
        self.grid_stride = 0

    @staticmethod
    def generate_anchors(box_size: float, ratio_scale_list: Sequence[tuple[float, float]]) -> Tensor:
        """Compute the widths and heights of anchors. The area of an anchor does not depend on the ratio.

        Args:
            box_size: side in pixels of the anchor with ratio 1 and scale 1
            ratio_scale_list: (ratio = height / width, scale) pairs

        Returns:
            (a, 2) float32 widths and heights in pixels
        """
        ratio, scale = torch.tensor(ratio_scale_list, dtype=torch.float64).unbind(1)
        return (box_size * torch.stack([scale / ratio.sqrt(), scale * ratio.sqrt()], dim=1)).float()

    def make_grid(self, height: int, width: int, stride: int) -> Tensor:
        """Compute the centres of the anchors. All anchors of a cell (`a` per cell) have the centre of the cell.

        Args:
            height: rows of the feature map
            width: columns of the feature map
            stride: distance between neighbouring cells in input pixels

        Returns:
            (height, width, a, 2) x and y in input pixels: `((column + .5) * stride, (row + .5) * stride)`
        """
        y = (torch.arange(height, dtype=torch.float32) + 0.5) * stride
        x = (torch.arange(width, dtype=torch.float32) + 0.5) * stride
        grid = torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], dim=-1)
        return grid[:, :, None].expand(height, width, self.num_anchors, 2)

    def forward(self, shape: Tensor, stride: int) -> Tensor:
        """Return the anchors of a feature map.

        Args:
            shape: 1-D int tensor that ends with the height and width of the feature map, on the device of the anchors
            stride: distance between neighbouring cells in input pixels

        Returns:
            (height, width, a, 4) float32 cx, cy, w, h in input pixels. This is the cached tensor, not a copy.
        """
        height, width = int(shape[-2]), int(shape[-1])
        grid = self.grid
        fits = grid.shape[0] == height and grid.shape[1] == width and self.grid_stride == stride
        if not torch.jit.is_scripting():
            fits = fits and usable_in_this_mode(grid)
        if not fits or grid.device != shape.device:
            centres = self.make_grid(height, width, stride)
            sizes = self.sizes.to(centres.device).expand(height, width, self.num_anchors, 2)
            self.grid = torch.cat([centres, sizes], dim=-1).to(shape.device)
            self.grid_stride = stride
        return self.grid


class Anchors(nn.Module):
    """Anchors of a pyramid: `encode` converts labels to training targets, `decode` converts predictions to boxes.

    Level l has anchors of size `base_size * 2**l` at stride `first_stride * 2**l`. The A anchors of a frame are
    ordered by level, row, column and shape. All geometry is computed in float32, also under autocast.

    Args:
        num_levels: number of pyramid levels
        base_size: side in pixels of the first level's anchor with ratio 1 and scale 1
        anchor_list: name in `ANCHOR_LISTS`, or (ratio = height / width, scale) pairs
        fg_iou_threshold: an anchor is positive if its IoU with a box is at least this
        bg_iou_threshold: an anchor is background if its IoU with every box is below this
        allow_low_quality_matches: assign at least one anchor to every box, regardless of the IoU
        variances: two scales, the first of the centre offsets, the second of the size offsets (SSD)
        max_decode: decode only the best class of each anchor; otherwise every class separately
        first_stride: distance in pixels between neighbouring cells of the first level
        num_classes: number of classes K. `encode` rejects targets on the CPU with a label above K; no limit if None

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        num_levels: int = 4,
        base_size: float = 32,
        anchor_list: str | Sequence[tuple[float, float]] = "PSEE_ANCHORS",
        fg_iou_threshold: float = 0.5,
        bg_iou_threshold: float = 0.3,
        allow_low_quality_matches: bool = True,
        variances: Sequence[float] = [0.1, 0.2],
        max_decode: bool = False,
        *,
        first_stride: int = 16,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        require(num_levels >= 1, "num_levels", num_levels, "a number of at least 1")
        require(first_stride >= 1, "first_stride", first_stride, "a number of at least 1")
        AnchorConfig(  # checks the ranges of these values
            anchor_list,  # type: ignore[arg-type]
            base_size,
            fg_iou_threshold,
            bg_iou_threshold,
            allow_low_quality_matches,
            variances,  # type: ignore[arg-type]
        )
        pairs = anchor_pairs(anchor_list)
        self.num_levels = num_levels
        self.base_size = base_size
        self.anchor_list = pairs
        self.num_anchors = len(pairs)
        self.fg_iou_threshold = fg_iou_threshold
        self.bg_iou_threshold = bg_iou_threshold
        self.allow_low_quality_matches = allow_low_quality_matches
        self.variances = [float(variance) for variance in variances]
        self.max_decode = max_decode
        self.num_classes = num_classes
        self.strides = [first_stride * 2**level for level in range(num_levels)]
        self.anchor_layers = nn.ModuleList([AnchorLayer(base_size * 2**level, pairs) for level in range(num_levels)])
        # (N, h, w) of each feature map for which the anchors are cached. Not buffers, for the reasons in AnchorLayer.
        self.feature_shapes = [[0, 0, 0] for _ in range(num_levels)]
        self.anchors = torch.zeros(0, 0, 4)

    def forward(self, xs: list[Tensor], x: Tensor) -> Tensor:
        """Return the anchors of all frames of a batch.

        Args:
            xs: feature maps, one (N, C, h, w) per level
            x: the network's input, on the device on which the anchors are needed

        Returns:
            (N, A, 4) cx, cy, w, h in pixels. The tensor is a view of the cache and must not be changed.

        Raises:
            ValueError: the number of feature maps is not the number of levels.
        """
        if len(xs) != self.num_levels:
            raise ValueError(f"xs: got {len(xs)} feature maps, allowed: {self.num_levels} (num_levels)")
        if self.has_changed(xs, x):
            levels: list[Tensor] = []
            for level, layer in enumerate(self.anchor_layers):
                height, width = xs[level].shape[-2], xs[level].shape[-1]
                self.feature_shapes[level] = [xs[level].shape[0], height, width]
                # The shape tensor is on the CPU, because reading it there does not wait for the GPU.
                levels.append(layer(torch.tensor([height, width]), self.strides[level]).view(-1, 4))
            self.anchors = torch.cat(levels).to(x.device)[None].expand(xs[0].shape[0], -1, -1)
        return self.anchors

    @torch.jit.export
    def has_changed(self, xs: list[Tensor], x: Tensor) -> bool:
        """Return True if the cached anchors cannot be used for a batch and must be computed again.

        Args:
            xs: feature maps, one (N, C, h, w) per level
            x: the network's input
        """
        if self.anchors.device != x.device or len(xs) != len(self.feature_shapes):
            return True
        if not torch.jit.is_scripting():  # noqa: SIM102 (one condition would be compiled)
            if not usable_in_this_mode(self.anchors):
                return True
        for level, feature in enumerate(xs):
            if [feature.shape[0], feature.shape[-2], feature.shape[-1]] != self.feature_shapes[level]:
                return True
        return False

    @torch.no_grad()
    def encode(
        self,
        features: list[Tensor],
        x: Tensor,
        targets: Sequence[Sequence[Tensor | np.ndarray]],
        *,
        out: tuple[Tensor, Tensor] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the training targets of all anchors. Boxes are assigned to anchors as defined by `assign_priors`.

        Args:
            features: feature maps, one (N, C, h, w) per level, for N = T * B frames in time-major order
            x: the network's input
            targets: list of T lists of B items. Each item has the boxes of one frame: a tensor or array of (M, >= 5)
                rows x1, y1, x2, y2, label (1..K), or a `BBOX_dtype` array
            out: result of an earlier call. Its memory is used again if shape and device fit, which saves time
            numbers: numbers that identify the N frames in error messages; 0 to N - 1 if None

        Returns:
            (N, A, 4) float32 offsets to the assigned boxes, zero for anchors that are not positive, and
            (N, A) int64 labels of the anchors: -1 ignored, 0 background, otherwise the label of the assigned box.

        Raises:
            ValueError: the number of targets differs from the number of frames. For targets on the CPU also: a
                coordinate is not finite, x2 < x1, y2 < y1, or a label is not in 1..K. The values of targets on a GPU
                are not checked, because the check would synchronize.
        """
        anchors = self(features, x)
        frames = [target for step in targets for target in step]
        boxes = pack_frames(frames, len(anchors), anchors.device, self.num_classes, numbers)
        fits = out is not None and out[0].shape == anchors.shape and out[0].device == anchors.device
        if out is None or not fits or not all(map(usable_in_this_mode, out)):
            out = anchors.new_empty(anchors.shape), anchors.new_empty(anchors.shape[:2], dtype=torch.int64)
        thresholds = (self.fg_iou_threshold, self.bg_iou_threshold, self.allow_low_quality_matches)
        encode_boxes(self._grid(anchors[0]), boxes, EncodeRule(*thresholds, self.variances), *out)
        return out

    @torch.no_grad()
    def encode_anchors(
        self, anchors: Tensor, anchors_xyxy: Tensor, targets: Sequence[Tensor | np.ndarray]
    ) -> tuple[Tensor, Tensor]:
        """Compute training targets for anchors that need not form a grid. This is slower than `encode`.

        Args:
            anchors: (A, 4) cx, cy, w, h
            anchors_xyxy: (A, 4) x1, y1, x2, y2 of the same anchors
            targets: list of N items. Each item has the boxes of one frame, as in `encode`

        Returns:
            (N, A, 4) float32 offsets and (N, A) int64 labels, as in `encode`.
        """
        boxes = pack_frames(targets, len(targets), anchors.device, self.num_classes)
        loc = torch.zeros(len(targets), *anchors.shape, device=anchors.device)
        labels = torch.zeros(loc.shape[:2], dtype=torch.int64, device=anchors.device)
        thresholds = (self.fg_iou_threshold, self.bg_iou_threshold, self.allow_low_quality_matches)
        for frame in range(len(targets)):
            mine = boxes.frames == frame
            assigned, labels[frame] = assign_priors(boxes.xyxy[mine], boxes.labels[mine], anchors_xyxy, *thresholds)
            positive = labels[frame] > 0
            loc[frame, positive] = bbox_to_deltas(assigned[positive], anchors[positive], self.variances)
        return loc, labels

    def set_low_quality_matches(
        self,
        ious: Tensor,
        batch_best_target_per_prior_indices: Tensor,
        batch_best_target_per_prior: Tensor,
        sizes: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Assign at least one anchor to every box, given the IoU of all pairs of anchors and boxes.

        Args:
            ious: (N, A, M) IoU of each anchor with each box; the boxes of a frame are padded to M
            batch_best_target_per_prior_indices: (N, A) index of the best box of each anchor, updated in place
            batch_best_target_per_prior: (N, A) IoU with this box, set in place to 2 for the assigned anchors
            sizes: number of boxes of each frame without padding

        Returns:
            The changed `batch_best_target_per_prior_indices` and `batch_best_target_per_prior`.
        """
        for frame, size in enumerate(sizes):
            if size > 0:
                force_matches(
                    ious[frame, :, :size],
                    batch_best_target_per_prior_indices[frame],
                    batch_best_target_per_prior[frame],
                )
        return batch_best_target_per_prior_indices, batch_best_target_per_prior

    @torch.no_grad()
    def decode(
        self,
        features: list[Tensor],
        x: Tensor,
        loc_preds: Tensor,
        scores: Tensor,
        batch_size: int,
        score_thresh: float = 0.5,
        nms_thresh: float = 0.6,
        max_boxes_per_input: int = 500,
    ) -> list[list[Detections]]:
        """Decode predictions to boxes, and apply non-maximum suppression.

        Args:
            features: feature maps, one (N, C, h, w) per level, for N = T * B frames in time-major order
            x: the network's input; the last two dimensions are the height and width of the frame
            loc_preds: (N, A, 4) offsets
            scores: (N, A, K) scores of the classes, without background
            batch_size: number of streams B
            score_thresh: only boxes with a score above this are kept
            nms_thresh: of two boxes of a frame and class with an IoU above this, the one with lower score is dropped
            max_boxes_per_input: largest number of boxes per frame that enter non-maximum suppression

        Returns:
            list of T lists of B dicts {"boxes": (M, 4) xyxy cropped to the frame, "scores": (M,), "labels": (M,) 1..K},
            sorted by descending score. Boxes outside the frame and boxes with NaN are dropped.

        Raises:
            ValueError: N is not a multiple of B.
        """
        num_frames = len(scores)
        require(num_frames % batch_size == 0, "batch_size", batch_size, f"a divisor of the {num_frames} frames")
        anchors = self(features, x)
        frame, anchor, score, label = self._best(scores, loc_preds, score_thresh, max_boxes_per_input)
        boxes = deltas_to_bbox(loc_preds[frame, anchor], anchors[0, anchor], self.variances)
        boxes = box_clamp(boxes, 0, 0, x.shape[-1], x.shape[-2])
        frames = suppress(frame, boxes, score, label, nms_thresh, num_frames)
        return [frames[start : start + batch_size] for start in range(0, num_frames, batch_size)]

    @torch.no_grad()
    def batched_decode(
        self, boxes: Tensor, scores: Tensor, score_thresh: float, nms_thresh: float, topk: int = 100
    ) -> list[Detections]:
        """Apply a score threshold, top-k selection and non-maximum suppression to decoded boxes.

        Args:
            boxes: (N, A, 4) xyxy boxes
            scores: (N, A, K) scores of the classes, without background
            score_thresh: only boxes with a score above this are kept
            nms_thresh: of two boxes of a frame and class with an IoU above this, the one with lower score is dropped
            topk: largest number of boxes per frame that enter non-maximum suppression

        Returns:
            list of N dicts with the same keys as in `decode`. Boxes without area and boxes with NaN are dropped.
        """
        frame, anchor, score, label = self._best(scores, boxes, score_thresh, topk)
        return suppress(frame, boxes[frame, anchor].float(), score, label, nms_thresh, len(scores))

    def _best(self, scores: Tensor, values: Tensor, score_thresh: float, topk: int) -> tuple[Tensor, ...]:
        """Return frame, anchor, score and label of the highest scores. Anchors with NaN in `values` are skipped."""
        best = best_scores(scores, score_thresh, topk, self.max_decode)
        if bool(values[best[0], best[1]].isnan().any()):
            scores = scores.masked_fill(values.isnan().any(dim=2, keepdim=True), torch.nan)
            best = best_scores(scores, score_thresh, topk, self.max_decode)
        return best

    def _grid(self, anchors: Tensor) -> AnchorGrid:
        """Describe `anchors` (A, 4), which must be those of the last `forward` call, as a grid for `encode_boxes`."""
        sizes = tuple((width, height) for _, height, width in self.feature_shapes)
        return AnchorGrid(
            anchors, *_shape_table(self.base_size, tuple(self.anchor_list), tuple(self.strides), sizes, anchors.device)
        )


@lru_cache(maxsize=8)
def _shape_table(
    base_size: float,
    pairs: tuple[tuple[float, float], ...],
    strides: tuple[int, ...],
    sizes: tuple[tuple[int, int], ...],
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return sizes, strides, cells, first, per_cell of an `AnchorGrid`. Argument `sizes`: (columns, rows) per level."""
    shapes: list[list[float]] = []
    cells: list[list[int]] = []
    first = 0
    for level, (stride, (width, height)) in enumerate(zip(strides, sizes, strict=True)):
        shapes += [[*size, stride] for size in AnchorLayer.generate_anchors(base_size * 2**level, pairs).tolist()]
        cells += [[width, height, first + shape] for shape in range(len(pairs))]
        first += height * width * len(pairs)
    shape, cell = torch.tensor(shapes, device=device), torch.tensor(cells, device=device)
    return shape[:, :2], shape[:, 2:], cell[:, :2], cell[:, 2], len(pairs)
