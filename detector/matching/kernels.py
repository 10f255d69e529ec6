"""Compiled loops that assign the boxes of a batch to anchors, frame by frame: `assign_boxes` for the CPU.

Only cells whose anchors can overlap a box enough are searched, see `detector.matching.assignment`; overlaps are rounded
as in `pairwise_iou`. The loops are in one module because the compiler's cache detects only changes of a function's own
file.
"""

from typing import Any

import numpy as np

from detector.utils.compiled import compiled

__all__ = ["fill_targets"]

Number = Any  # float32, which is not a float for mypy
Three = tuple[Number, Number, Number]
Four = tuple[Number, Number, Number, Number]

ZERO, HALF, ONE, TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-12)
SLACK = np.float32(1e-3)  # cells; more than the rounding of a cell's bounds
FORCED = np.float32(2)  # above every overlap
LEAST_SIDE, MOST_SIDE = np.float32(1e-3), np.float32(10000)  # pixels; those of `bbox_to_deltas`


@compiled
def fill_targets(
    boxes: np.ndarray,
    labels: np.ndarray,
    starts: np.ndarray,
    anchors: np.ndarray,
    shapes: np.ndarray,
    cells: np.ndarray,
    settings: np.ndarray,
    low_quality: bool,
    loc: np.ndarray,
    cls: np.ndarray,
) -> None:
    """Fill the offsets and labels of all anchors of a batch.

    Args:
        boxes: (M, 4) float32 finite x1, y1, x2, y2, frame after frame.
        labels: (M,) int64 1..K.
        starts: (N + 1,) int64 first box of each frame, and M.
        anchors: (A, 4) float32 cx, cy, w, h by level, row, column and shape.
        shapes: (S, 3) float32 width, height and stride of each shape.
        cells: (S, 4) int64 columns, rows, index of the first anchor, anchors per cell.
        settings: (4,) float32 foreground and background threshold, scale of the centre's and of the size's offsets.
        low_quality: every box holds at least one anchor.
        loc, cls: (N, A, 4) float32 and (N, A) int64, overwritten.
    """
    best = np.zeros(anchors.shape[0], np.float32)
    owner, touched = np.empty(anchors.shape[0], np.int32), np.empty(anchors.shape[0], np.int32)
    holder = np.full(anchors.shape[0], -1, np.int32)
    wanted, strength = np.empty(boxes.shape[0], np.int64), np.empty(boxes.shape[0], np.float32)
    fg, bg = settings[0], settings[1]
    threshold = bg if bg > ZERO else fg
    for frame in range(starts.size - 1):
        start, stop = starts[frame], starts[frame + 1]
        loc[frame, :, :] = ZERO
        cls[frame, :] = -1 if bg == ZERO and stop > start else 0  # no overlap is below 0
        # Step 1: every box marks the anchors that it overlaps enough; `touched` lists them.
        count = 0
        for box in range(start, stop):
            count, strength[box], wanted[box] = _mark(
                box, _four(boxes, box), shapes, cells, threshold, best, owner, touched, count
            )
        # Step 2: every box gets one anchor, with an overlap above every threshold.
        if low_quality:
            _match(start, stop, boxes, shapes, cells, wanted, strength, holder)
            for box in range(start, stop):
                anchor = wanted[box]
                if anchor >= 0:
                    if best[anchor] == ZERO:
                        touched[count] = anchor
                        count += 1
                    best[anchor], owner[anchor], holder[anchor] = FORCED, box, -1
        # Step 3: write the targets of the touched anchors, and clear their overlaps for the next frame.
        for k in range(count):
            anchor = touched[k]
            if best[anchor] >= fg:
                cls[frame, anchor] = labels[owner[anchor]]
                _offsets(_four(boxes, owner[anchor]), _four(anchors, anchor), settings, loc, frame, anchor)
            else:
                cls[frame, anchor] = -1
            best[anchor] = ZERO


@compiled
def _mark(
    number: int,
    box: Four,
    shapes: np.ndarray,
    cells: np.ndarray,
    threshold: Number,
    best: np.ndarray,
    owner: np.ndarray,
    touched: np.ndarray,
    count: int,
) -> tuple[int, Number, int]:
    """Assign a box to the anchors that it overlaps enough and most; returns the touched anchors and its best anchor."""
    top, chosen = -ONE, -1
    for s in range(shapes.shape[0]):
        shape, cell = _three(shapes, s), _four(cells, s)
        low_x, high_x, low_y, high_y = _cells_to_search(box, shape, cell, threshold, False)
        for y in range(low_y, high_y + 1):
            for x in range(low_x, high_x + 1):
                iou = _overlap(box, shape, x, y)
                if iou >= threshold:
                    anchor = cell[2] + (y * cell[0] + x) * cell[3]
                    if iou > best[anchor]:
                        if best[anchor] == ZERO:
                            touched[count] = anchor
                            count += 1
                        best[anchor], owner[anchor] = iou, number
                    if iou > top or (iou == top and anchor < chosen):
                        top, chosen = iou, anchor
    return count, top, chosen


@compiled
def _match(
    start: int,
    stop: int,
    boxes: np.ndarray,
    shapes: np.ndarray,
    cells: np.ndarray,
    wanted: np.ndarray,
    strength: np.ndarray,
    holder: np.ndarray,
) -> None:
    """Write the anchor that each box of a frame holds to `wanted`, -1 for none, see `match_each_box`.

    A box takes the best anchor that no stronger box holds, and the previous holder looks for another anchor. The
    overlap of a holder only increases, so a box never has to ask an anchor twice.
    """
    for first in range(start, stop):
        box: Any = first
        while box >= 0:
            anchor = wanted[box]
            if anchor < 0 or not _accepts(anchor, box, strength[box], holder, strength):
                strength[box], anchor = _best_free(box, _four(boxes, box), shapes, cells, holder, strength)
                wanted[box] = anchor
            if anchor < 0:
                break
            other = np.int64(holder[anchor])
            holder[anchor] = box
            box = other


@compiled
def _accepts(anchor: int, box: int, iou: Number, holder: np.ndarray, strength: np.ndarray) -> bool:
    """Whether an anchor is free or its holder overlaps it less; of equal overlaps the first box keeps it."""
    other = holder[anchor]
    return other < 0 or iou > strength[other] or (iou == strength[other] and box < other)


@compiled
def _best_free(
    number: int, box: Four, shapes: np.ndarray, cells: np.ndarray, holder: np.ndarray, strength: np.ndarray
) -> tuple[Number, int]:
    """The highest overlap of a box with an anchor that accepts it, and the first such anchor; -1 for none."""
    # Step 1: search the nearest cells. Step 2: search all cells that can reach the best overlap found so far.
    top, chosen = _search(number, box, shapes, cells, True, ZERO, -1, holder, strength)
    top, chosen = _search(number, box, shapes, cells, False, top, chosen, holder, strength)
    if chosen >= 0:
        return top, chosen
    # Step 3: without any overlap, take the first anchor that accepts the box.
    for anchor in range(holder.shape[0]):
        if _accepts(anchor, number, ZERO, holder, strength):
            return ZERO, anchor
    return -ONE, -1


@compiled
def _search(
    number: int,
    box: Four,
    shapes: np.ndarray,
    cells: np.ndarray,
    nearest: bool,
    top: Number,
    chosen: int,
    holder: np.ndarray,
    strength: np.ndarray,
) -> tuple[Number, int]:
    """Search for a better anchor than `chosen` in the nearest cells, or in all cells whose overlap can reach `top`."""
    for s in range(shapes.shape[0]):
        shape, cell = _three(shapes, s), _four(cells, s)
        low_x, high_x, low_y, high_y = _cells_to_search(box, shape, cell, top, nearest)
        for y in range(low_y, high_y + 1):
            for x in range(low_x, high_x + 1):
                iou = _overlap(box, shape, x, y)
                if iou >= top and iou > ZERO:
                    anchor = cell[2] + (y * cell[0] + x) * cell[3]
                    better = iou > top or anchor < chosen
                    if better and _accepts(anchor, number, iou, holder, strength):
                        top, chosen = iou, anchor
    return top, chosen


@compiled
def _cells_to_search(
    box: Four, shape: Three, cell: Four, threshold: Number, nearest: bool
) -> tuple[int, int, int, int]:
    """First and last column and row of the nearest cells, or of those where the shape may overlap by the threshold."""
    width, height, stride = box[2] - box[0], box[3] - box[1], shape[2]
    most_x = width if width < shape[0] else shape[0]
    most_y = height if height < shape[1] else shape[1]
    shared = (width * height + shape[0] * shape[1]) * (threshold / (ONE + threshold))
    if nearest:  # the nearest cell is always within half a cell of a centre inside the grid
        reach_x = reach_y = HALF
    elif most_x > ZERO and most_y > ZERO and shared <= most_x * most_y * (ONE + SLACK):
        reach_x = ((width + shape[0]) * HALF - shared / most_y) / stride
        reach_y = ((height + shape[1]) * HALF - shared / most_x) / stride
    else:
        return 0, -1, 0, -1
    low_x, high_x = _range((box[0] + box[2]) * HALF / stride - HALF, reach_x + SLACK, cell[0])
    low_y, high_y = _range((box[1] + box[3]) * HALF / stride - HALF, reach_y + SLACK, cell[1])
    return low_x, high_x, low_y, high_y


@compiled
def _range(centre: Number, reach: Number, size: Number) -> tuple[Number, Number]:
    """First and last of `size` cells within reach of a centre, which is moved into the grid."""
    last = np.float32(size - 1)
    centre = min(max(centre, ZERO), last)
    return np.int64(np.ceil(max(centre - reach, ZERO))), np.int64(np.floor(min(centre + reach, last)))


@compiled
def _overlap(box: Four, shape: Three, column: int, row: int) -> Number:
    """Intersection over union of a box and the anchor of a shape in a cell, rounded as in `pairwise_iou`."""
    x, y = (np.float32(column) + HALF) * shape[2], (np.float32(row) + HALF) * shape[2]
    half_width, half_height = shape[0] * HALF, shape[1] * HALF
    left, right, top, bottom = x - half_width, x + half_width, y - half_height, y + half_height
    # min and max would test for NaN and take twice as long.
    width = (right if right < box[2] else box[2]) - (left if left > box[0] else box[0])
    height = (bottom if bottom < box[3] else box[3]) - (top if top > box[1] else box[1])
    if width <= ZERO or height <= ZERO:
        return ZERO
    shared = width * height
    area = (right - left) * (bottom - top) + (box[2] - box[0]) * (box[3] - box[1]) - shared
    return shared / (area if area > TINY else TINY)


@compiled
def _offsets(box: Four, anchor: Four, settings: np.ndarray, loc: np.ndarray, frame: int, index: int) -> None:
    """Write the offsets of a box to `loc`, as `bbox_to_deltas` computes them."""
    for axis in range(2):
        side = min(max(box[axis + 2] - box[axis], LEAST_SIDE), MOST_SIDE)
        centre = (box[axis] + box[axis + 2]) * HALF
        loc[frame, index, axis] = (centre - anchor[axis]) / (settings[2] * anchor[axis + 2])
        loc[frame, index, axis + 2] = np.log(side / anchor[axis + 2]) / settings[3]


@compiled
def _three(table: np.ndarray, row: int) -> Three:
    """A row as numbers, which inner loops keep in registers."""
    return table[row, 0], table[row, 1], table[row, 2]


@compiled
def _four(table: np.ndarray, row: int) -> Four:
    return table[row, 0], table[row, 1], table[row, 2], table[row, 3]
