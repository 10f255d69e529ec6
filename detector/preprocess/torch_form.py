"""The representations as functions of tensors: on any device, and inside TorchScript for streaming inference.

Events come as columns x, y, p, t of whole numbers on one device; t in microseconds from the start of the first bin.
Each function returns what the function of the same name in `detector.preprocess` writes, as floats or as bytes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from detector.config.groups import DataConfig

__all__ = [
    "TORCH_PREPROCESS",
    "EventsToTensor",
    "diff",
    "event_cube",
    "histo",
    "multi_channel_timesurface",
    "signed_event_cube",
    "stacked_histo",
    "timesurface",
]


def histo(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t: Tensor,
    shape: list[int],
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    max_incr_per_pixel: float = 5.0,
    dtype: torch.dtype = torch.float32,
    out: Tensor | None = None,
) -> Tensor:
    """Count events by time bin, polarity and pixel.

    Args:
        x: (N,) columns of any integer type.
        y: (N,) rows.
        p: (N,) polarities, 0 or 1.
        t: (N,) microseconds from the start of the first bin; events outside of the bins are dropped.
        shape: T, C, H, W of the result.
        total_tbins_delta_t: duration of all T bins in microseconds.
        downsampling_factor: k sums squares of 2^k x 2^k sensor pixels.
        max_incr_per_pixel: count at which a pixel saturates.
        dtype: of the result; bytes hold what they hold in a file, see `byte_code`.
        out: memory of this shape and type for the result: on a CPU fresh memory costs as much as the counting.

    Raises:
        ValueError: an event lies outside of the result.
    """
    result = torch.empty(shape, dtype=dtype, device=t.device) if out is None else out
    return _counts(x, y, p, t, result, total_tbins_delta_t, downsampling_factor, max_incr_per_pixel)


def stacked_histo(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t: Tensor,
    shape: list[int],
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    max_incr_per_pixel: float = 5.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """As `histo`, for C // 2 micro-bins; channel p * (C // 2) + micro-bin."""
    bins, utbins, height, width = shape[0], shape[1] // 2, shape[2], shape[3]
    fine = [bins * utbins, 2, height, width]
    result = torch.empty(fine, dtype=dtype, device=t.device)
    counts = _counts(x, y, p, t, result, total_tbins_delta_t, downsampling_factor, max_incr_per_pixel)
    return counts.view(bins, utbins, 2, height, width).transpose(1, 2).reshape(shape)


def diff(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t: Tensor,
    shape: list[int],
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    max_incr_per_pixel: float = 5.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """ON minus OFF events by time bin and pixel; otherwise as `histo`."""
    x, y, p, t, bounds = _into_bins(x, y, p, t, _edges(shape[0], total_tbins_delta_t))
    result = torch.empty(shape, dtype=dtype, device=t.device)
    for k in range(shape[0]):
        part = slice(bounds[k], bounds[k + 1])
        index = _pixels(x[part], y[part], p[part], shape, downsampling_factor, False)
        net = torch.zeros(shape[2] * shape[3], dtype=torch.int32, device=t.device)
        net.scatter_add_(0, index, p[part].to(torch.int32) * 2 - 1)
        _scale(net.view(shape[1:]), max_incr_per_pixel, result[k])
    return result


def timesurface(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t: Tensor,
    shape: list[int],
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    max_incr_per_pixel: float = 5.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Time of the last event by time bin, polarity and pixel, 0 for none; otherwise as `histo`."""
    edges = _edges(shape[0], total_tbins_delta_t)
    x, y, p, t, bounds = _into_bins(x, y, p, t, edges)
    result = torch.empty(shape, dtype=dtype, device=t.device)
    for k in range(shape[0]):
        part = slice(bounds[k], bounds[k + 1])
        index = _pixels(x[part], y[part], p[part], shape, downsampling_factor, True)
        last = torch.zeros(shape[1] * shape[2] * shape[3], dtype=torch.int64, device=t.device)
        last.scatter_reduce_(0, index, t[part].to(torch.int64) - (edges[k] - 1), "amax")
        duration = max(edges[k + 1] - edges[k], 1)
        if dtype == torch.uint8:
            levels = torch.div(last * 255 + (duration - 1), duration, rounding_mode="floor")
            result[k] = levels.to(dtype).view(shape[1:])
        else:
            result[k] = (last.to(torch.float32) / duration).view(shape[1:])
    return result


def multi_channel_timesurface(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t: Tensor,
    shape: list[int],
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    max_incr_per_pixel: float = 5.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The `timesurface` of each third of a time bin; channel 2 * third + p."""
    utbins = shape[1] // 2
    fine = [shape[0] * utbins, 2, shape[2], shape[3]]
    surfaces = timesurface(x, y, p, t, fine, total_tbins_delta_t, downsampling_factor, max_incr_per_pixel, dtype)
    return surfaces.view(shape)


def event_cube(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t: Tensor,
    shape: list[int],
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    max_incr_per_pixel: float = 5.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Events shared out between the two of C // 2 micro-bins beside them; channel 2 * micro-bin + p."""
    return _cube(x, y, p, t, shape, total_tbins_delta_t, downsampling_factor, max_incr_per_pixel, dtype, True)


def signed_event_cube(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t: Tensor,
    shape: list[int],
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    max_incr_per_pixel: float = 5.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """As `event_cube` with C micro-bins in which OFF events count -1."""
    return _cube(x, y, p, t, shape, total_tbins_delta_t, downsampling_factor, max_incr_per_pixel, dtype, False)


TORCH_PREPROCESS: dict[str, Callable[..., Tensor]] = {
    "histo": histo,
    "diff": diff,
    "timesurface": timesurface,
    "multi_channel_timesurface": multi_channel_timesurface,
    "event_cube": event_cube,
    "stacked_histo": stacked_histo,
}
"""Functions by the name that `data.preprocess` gives; an event cube of one polarity is `signed_event_cube`."""


class EventsToTensor(nn.Module):
    """Preprocessing as a module that can be scripted.

    Args:
        data: `preprocess` and its parameters, and `delta_t`.
        num_tbins: T, bins of `data.delta_t` in a call.
        height: rows of the result.
        width: columns of the result.
        downsampling_factor: k of the sensor's size, 2^k times that of the result.
    """

    def __init__(self, data: DataConfig, num_tbins: int, height: int, width: int, downsampling_factor: int = 0) -> None:
        super().__init__()
        signed = data.preprocess == "event_cube" and not data.split_polarity
        self.function = signed_event_cube if signed else TORCH_PREPROCESS[data.preprocess]
        self.shape = [num_tbins, data.in_channels, height, width]
        self.total = num_tbins * data.delta_t
        self.downsampling_factor = downsampling_factor
        self.max_incr_per_pixel = float(data.max_incr_per_pixel)

    def forward(self, x: Tensor, y: Tensor, p: Tensor, t: Tensor, start: int) -> Tensor:
        """Make T frames (T, C, H, W) float32.

        Args:
            x: (N,) columns in sensor pixels, as all events of any integer type.
            y: (N,) rows.
            p: (N,) polarities, 0 or 1.
            t: (N,) int64 microseconds; events outside of the T bins are dropped.
            start: start of the first bin in microseconds.
        """
        # In float32 times beyond 16.7 s would lose microseconds: whole numbers are subtracted first.
        since = t.to(torch.int64) - start
        return self.function(
            x, y, p, since, self.shape, self.total, self.downsampling_factor, self.max_incr_per_pixel, torch.float32
        )


def _counts(x: Tensor, y: Tensor, p: Tensor, t: Tensor, result: Tensor, total: int, shift: int, bound: float) -> Tensor:
    """One bin at a time: its counts stay in the processor's cache. Floats count exactly up to 2^24."""
    shape: list[int] = list(result.shape)
    x, y, p, t, bounds = _into_bins(x, y, p, t, _edges(shape[0], total))
    # On a CPU temporary tensors should fit its caches; a GPU is started as seldom as possible.
    step = 1 << 16 if t.device.type == "cpu" else max(t.numel(), 1)
    ones = torch.ones(min(step, t.numel()), dtype=torch.float32, device=t.device)
    counts = torch.empty(shape[1] * shape[2] * shape[3], dtype=torch.float32, device=t.device)
    for k in range(shape[0]):
        counts.zero_()
        for start in range(bounds[k], bounds[k + 1], step):
            part = slice(start, min(start + step, bounds[k + 1]))
            index = _pixels(x[part], y[part], p[part], shape, shift, True)
            counts.scatter_add_(0, index, ones[: index.numel()])
        _scale(counts.view(shape[1:]), bound, result[k])
    return result


def _scale(counts: Tensor, bound: float, out: Tensor) -> None:
    """Write clipped counts: as they are in bytes, divided by the bound in floats."""
    if out.is_floating_point():
        torch.div(counts, bound, out=out).clamp_(-1.0, 1.0)
    else:
        out.copy_(counts.clamp(int(-bound), int(bound)))


def _cube(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t: Tensor,
    shape: list[int],
    total: int,
    shift: int,
    bound: float,
    dtype: torch.dtype,
    split_polarity: bool,
) -> Tensor:
    x, y, p, t, bounds = _into_bins(x, y, p, t, _edges(shape[0], total))
    polarities = 2 if split_polarity else 1
    bins, utbins = shape[0], shape[1] // polarities
    plane = polarities * shape[2] * shape[3]
    highest = 255.0 if dtype == torch.uint8 else 127.0 if dtype == torch.int8 else 1.0
    gain = highest / (bound * 4.0**shift)
    result = torch.empty(shape, dtype=dtype, device=t.device)
    for k in range(bins):
        part = slice(bounds[k], bounds[k + 1])
        index = _pixels(x[part], y[part], p[part], shape, shift, split_polarity)
        # In units of half a micro-bin over `total`, all whole numbers: where the event is since the first centre.
        since = (t[part].to(torch.int64) * bins - k * total) * (2 * utbins) - total
        left = torch.div(since, 2 * total, rounding_mode="floor")
        share = (since - left * (2 * total)).to(torch.float32) / (2 * total)
        sign = torch.ones_like(share) if split_polarity else (p[part].to(torch.float32) * 2 - 1)
        # A micro-bin before the first and one after the last take what falls outside.
        sums = torch.zeros((utbins + 2) * plane, dtype=torch.float32, device=t.device)
        sums.scatter_add_(0, index + (left + 1) * plane, (1 - share) * sign)
        sums.scatter_add_(0, index + (left + 2) * plane, share * sign)
        values = (sums[plane : (utbins + 1) * plane] * gain).clamp(-highest, highest)
        if highest > 1:
            values = torch.floor(values + 0.5)
        result[k] = values.to(dtype).view(shape[1:])
    return result


def _into_bins(
    x: Tensor, y: Tensor, p: Tensor, t: Tensor, edges: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    """The columns, and the index of each bin's first event and of the end of the last bin's; sorted only if need be."""
    bounds = _bounds(t, edges)
    if _are_binned(t, edges, bounds):
        return x, y, p, t, bounds
    order = torch.argsort(t, stable=True)
    t = t[order]
    return x[order], y[order], p[order], t, _bounds(t, edges)


def _are_binned(t: Tensor, edges: list[int], bounds: list[int]) -> bool:
    """Whether the times between `bounds` are those between `edges`; in what order a bin holds them is all the same."""
    starts, stops = [0] + bounds, bounds + [t.numel()]
    ranges: list[Tensor] = []
    filled: list[int] = []
    for k in range(len(starts)):
        if starts[k] > stops[k]:  # found by bisection of times in no order
            return False
        if starts[k] < stops[k]:
            ranges.append(torch.stack(torch.aminmax(t[starts[k] : stops[k]])))
            filled.append(k)
    if len(filled) == 0:
        return True
    found: list[list[int]] = torch.stack(ranges).tolist()
    for k, (first, last) in zip(filled, found):  # noqa: B905 - TorchScript's zip is never strict
        if (k > 0 and first < edges[k - 1]) or (k < len(edges) and last >= edges[k]):
            return False
    return True


def _edges(bins: int, total: int) -> list[int]:
    """First whole microsecond of each bin, and the end of the last."""
    return [-(-k * total // bins) for k in range(bins + 1)]


def _bounds(t: Tensor, edges: list[int]) -> list[int]:
    """Index of the first event at or after each edge, in a column in order."""
    found: list[int] = torch.searchsorted(
        t.to(torch.int64).contiguous(), torch.tensor(edges, dtype=torch.int64, device=t.device)
    ).tolist()
    return found


def _pixels(x: Tensor, y: Tensor, p: Tensor, shape: list[int], shift: int, split: bool) -> Tensor:
    """Where each event's pixel lies in a frame, int64; with `split`, ON events lie a plane behind OFF events."""
    height, width = shape[2], shape[3]
    x, y = _signed(x), _signed(y)
    if x.numel() > 0:
        ranges = torch.stack([torch.stack(torch.aminmax(column)).to(torch.int64) for column in [x, y, p]])
        first: list[int] = ranges[:, 0].tolist()
        last: list[int] = ranges[:, 1].tolist()
        ends = [width << shift, height << shift, 2]
        if min(first) < 0 or last[0] >= ends[0] or last[1] >= ends[1] or last[2] >= ends[2]:
            raise ValueError(f"events: x, y, p run from {first} to {last}, allowed: from 0 to below {ends}")
    x, y = x.to(torch.int32), y.to(torch.int32)
    if shift > 0:
        x, y = x >> shift, y >> shift
    index = torch.add(x, y, alpha=width)
    return (index.add_(p, alpha=height * width) if split else index).to(torch.int64)


def _signed(column: Tensor) -> Tensor:
    """The column in a type that torch can compute with."""
    return column.to(torch.int32) if column.dtype == torch.uint16 else column
