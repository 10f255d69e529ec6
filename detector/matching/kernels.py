"""Compiled loops that assign the boxes of a batch to anchors, frame by frame. They replace `assign_boxes` on the CPU.

Only the cells whose anchors can reach the required overlap with a box are searched, see `detector.matching.assignment`.
The IoU is rounded as in `pairwise_iou`. All functions are in one module, because the cache of the compiler does
not detect changes in other files.
"""

from typing import Any

import numpy as np

from detector.utils.compiled import compiled

__all__ = ["fill_targets"]

Number = Any  # float32; mypy does not accept it as a float
Three = tuple[Number, Number, Number]
Four = tuple[Number, Number, Number, Number]

ZERO, HALF, ONE, TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-12)
SLACK = np.float32(1e-3)  # in cells; larger than the rounding errors of the bounds of a cell
FORCED = np.float32(2)  # larger than every IoU
LEAST_SIDE, MOST_SIDE = np.float32(1e-3), np.float32(10000)  # in pixels, as in `bbox_to_deltas`


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
    """Assign the boxes of a batch to anchors, and write the offsets and labels of all anchors.

    Args:
        boxes: (M, 4) float32 finite x1, y1, x2, y2, frame after frame.
        labels: (M,) int64 labels 1..K of the boxes.
        starts: (N + 1,) int64 index of the first box of each frame, followed by M.
        anchors: (A, 4) float32 cx, cy, w, h, ordered by level, row, column and shape.
        shapes: (S, 3) float32 width, height and stride of each anchor shape.
        cells: (S, 4) int64 number of columns, number of rows, index of first anchor, anchors per cell, for each shape.
        settings: (4,) float32 foreground threshold, background threshold, scale of centre offsets, of size offsets.
        low_quality: whether every box gets at least one anchor, regardless of the IoU.
        loc, cls: (N, A, 4) float32 array, overwritten by the offsets; (N, A) int64 array, overwritten by the labels.
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
        cls[frame, :] = -1 if bg == ZERO and stop > start else 0  # no IoU is below 0
        # Step 1: find the best box of each anchor with a sufficient IoU. `touched` lists these anchors.
        count = 0
        for box in range(start, stop):
            count, strength[box], wanted[box] = _update_owners(
                box, _four(boxes, box), shapes, cells, threshold, best, owner, touched, count
            )
        # Step 2: assign one anchor to every box, with an IoU value above both thresholds.
        if low_quality:
            _match(start, stop, boxes, shapes, cells, wanted, strength, holder)
            for box in range(start, stop):
                anchor = wanted[box]
                if anchor >= 0:
                    if best[anchor] == ZERO:
                        touched[count] = anchor
                        count += 1
                    best[anchor], owner[anchor], holder[anchor] = FORCED, box, -1
        # Step 3: write the targets of the touched anchors, and clear `best` for the next frame.
        for k in range(count):
            anchor = touched[k]
            if best[anchor] >= fg:
                cls[frame, anchor] = labels[owner[anchor]]
                _offsets(_four(boxes, owner[anchor]), _four(anchors, anchor), settings, loc, frame, anchor)
            else:
                cls[frame, anchor] = -1
            best[anchor] = ZERO


@compiled
def _update_owners(
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
    """Assign a box to each anchor that overlaps this box more than the previous boxes of the frame.

    The function is called for one box of the frame after the other. The box is assigned to an anchor under two
    conditions: the IoU of the box and the anchor is at least `threshold`, and it is higher than `best` for this anchor.

    Args:
        number: index of the box.
        box: corners of the box.
        shapes: (S, 3) anchor shapes, as in `fill_targets`.
        cells: (S, 4) grid of each shape, as in `fill_targets`.
        threshold: smallest IoU at which a box is assigned to an anchor.
        best: (A,) IoU of each anchor with the box that is assigned to it, 0 without a box. Updated.
        owner: (A,) index of the box that is assigned to each anchor, undefined without a box. Updated.
        touched: (A,) array whose first `count` elements are the indices of the anchors with a box. Updated.
        count: number of anchors that had a box before this call.

    Returns:
        The new `count`, the highest IoU of the box with an anchor, and the index of this anchor. The last two are -1 if
        no IoU reaches the threshold.
    """
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
    """Assign one anchor to each box of a frame, as `match_each_box` does, and write it to `wanted`.

    A box gets the best of the anchors that are free or assigned to a box with a lower IoU. In the second case, the
    other box then searches for another anchor. The IoU of an anchor with its assigned box only increases, so a box
    never has to try an anchor twice.

    Args:
        start: index of the first box of the frame.
        stop: index after the last box of the frame.
        boxes: (M, 4) boxes of the batch.
        shapes: (S, 3) anchor shapes, as in `fill_targets`.
        cells: (S, 4) grid of each shape, as in `fill_targets`.
        wanted: (M,) anchor that each box tries first, overwritten by the anchor that the box gets, or by -1 if none.
        strength: (M,) IoU of each box with its anchor in `wanted`, updated.
        holder: (A,) box to which each anchor is assigned, -1 for a free anchor, updated.
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
    """Return whether a box can get an anchor that has this IoU with the box.

    The anchor must be free, or be assigned to a box with a lower IoU, or to one with equal IoU and a higher index.
    """
    other = holder[anchor]
    return other < 0 or iou > strength[other] or (iou == strength[other] and box < other)


@compiled
def _best_free(
    number: int, box: Four, shapes: np.ndarray, cells: np.ndarray, holder: np.ndarray, strength: np.ndarray
) -> tuple[Number, int]:
    """Return the highest IoU of a box with any anchor that the box can get, and the first anchor with this IoU.

    `_accepts` decides whether the box can get an anchor. Both results are -1 if the box can get no anchor.
    """
    # Step 1: search the nearest cells. Step 2: search all cells that can reach the highest IoU found so far.
    top, chosen = _search(number, box, shapes, cells, True, ZERO, -1, holder, strength)
    top, chosen = _search(number, box, shapes, cells, False, top, chosen, holder, strength)
    if chosen >= 0:
        return top, chosen
    # Step 3: if no such anchor overlaps the box, take the first anchor that accepts the box.
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
    """Search for an anchor that is better than `chosen`, whose IoU is `top`, and that accepts the box.

    If `nearest`, only the nearest cells are searched; otherwise, all cells whose IoU can reach `top`. Return the IoU
    and the index of the best anchor, which are `top` and `chosen` if no anchor is better.
    """
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
    """Compute the range of cells to search for a box and an anchor shape.

    If `nearest`, these are the nearest cells; otherwise, the cells in which the IoU can reach the threshold.

    Returns:
        First column, last column, first row, last row.
    """
    width, height, stride = box[2] - box[0], box[3] - box[1], shape[2]
    most_x = width if width < shape[0] else shape[0]
    most_y = height if height < shape[1] else shape[1]
    shared = (width * height + shape[0] * shape[1]) * (threshold / (ONE + threshold))
    if nearest:  # a centre inside the grid is at most half a cell away from the nearest cell
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
    """Return the first and the last of the cells 0 to `size` - 1 that are at most `reach` cells away from `centre`.

    A centre outside the grid is first moved to the border of the grid.
    """
    last = np.float32(size - 1)
    centre = min(max(centre, ZERO), last)
    return np.int64(np.ceil(max(centre - reach, ZERO))), np.int64(np.floor(min(centre + reach, last)))


@compiled
def _overlap(box: Four, shape: Three, column: int, row: int) -> Number:
    """Compute the IoU of a box and the anchor of this shape in a cell, rounded as in `pairwise_iou`."""
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
    """Write the offsets of a box relative to an anchor to `loc[frame, index]`, as `bbox_to_deltas` computes them."""
    for axis in range(2):
        side = min(max(box[axis + 2] - box[axis], LEAST_SIDE), MOST_SIDE)
        centre = (box[axis] + box[axis + 2]) * HALF
        loc[frame, index, axis] = (centre - anchor[axis]) / (settings[2] * anchor[axis + 2])
        loc[frame, index, axis + 2] = np.log(side / anchor[axis + 2]) / settings[3]


@compiled
def _three(table: np.ndarray, row: int) -> Three:
    """Return the three values of a row as numbers, which inner loops keep in registers."""
    return table[row, 0], table[row, 1], table[row, 2]


@compiled
def _four(table: np.ndarray, row: int) -> Four:
    return table[row, 0], table[row, 1], table[row, 2], table[row, 3]
