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
    """Fill the offsets and labels of all anchors of a batch.

    Args:
        boxes: (M, 4) float32 finite x1, y1, x2, y2, frame after frame.
        labels: (M,) int64 labels 1..K of the boxes.
        starts: (N + 1,) int64 index of the first box of each frame, followed by M.
        anchors: (A, 4) float32 cx, cy, w, h, ordered by level, row, column and shape.
        shapes: (S, 3) float32 width, height and stride of each anchor shape.
        cells: (S, 4) int64 columns, rows, index of the first anchor, and anchors per cell, for each shape.
        settings: (4,) float32 foreground and background threshold, scales of the centre and of the size offsets.
        low_quality: whether every box gets at least one anchor, regardless of the IoU.
        loc, cls: (N, A, 4) float32 and (N, A) int64 arrays, overwritten by the offsets and the labels.
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
    """Assign a box to each anchor whose IoU with it is sufficient and higher than the IoU with the previous boxes.

    Args:
        number: index of the box.
        box: corners of the box.
        shapes: see `fill_targets`.
        cells: see `fill_targets`.
        threshold: lowest sufficient IoU.
        best: (A,) highest IoU of each anchor so far, updated.
        owner: (A,) box with this IoU, updated.
        touched: list of the anchors with a sufficient IoU, updated.
        count: length of this list.

    Returns:
        The new length of `touched`, the highest IoU of the box, and the anchor with this IoU. Without a sufficient IoU,
        the last two are -1.
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

    A box gets its best anchor that is free or assigned to a box with a lower IoU. That other box then searches for
    another anchor. The IoU of an anchor with its assigned box only increases, so a box never has to try an anchor
    twice. If a box gets no anchor, `wanted` is -1.
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
    """Return whether an anchor is free or assigned to a box with a lower IoU.

    Of two boxes with equal IoU, the anchor prefers the box with the lower index.
    """
    other = holder[anchor]
    return other < 0 or iou > strength[other] or (iou == strength[other] and box < other)


@compiled
def _best_free(
    number: int, box: Four, shapes: np.ndarray, cells: np.ndarray, holder: np.ndarray, strength: np.ndarray
) -> tuple[Number, int]:
    """Return the highest IoU of a box with an anchor that accepts it, see `_accepts`, and the first such anchor.

    Both are -1 if no anchor accepts the box.
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
    """Search for a better anchor than `chosen`, whose IoU is `top`, and return the IoU and index of the best anchor.

    Only the nearest cells are searched, or all cells whose IoU can reach `top`.
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

    These are the nearest cells, or the cells in which the IoU can reach the threshold.

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
    """Return the first and last of `size` cells at a distance of up to `reach` from a centre.

    A centre outside the grid is first moved to its border.
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
    """Write the offsets of a box to `loc`, as `bbox_to_deltas` computes them."""
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
