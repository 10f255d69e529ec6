"""The representations as functions of torch tensors, for any device and for streaming inference in TorchScript.

Every function has the form `f(events, out, total, shift, bound)`. It writes the same values into `out` as the function
of the same name in `detector.preprocess`, and returns `out`. `signed_event_cube` corresponds to `event_cube` without
`split_polarity`. All functions raise a ValueError if an event is outside the frames.
"""

from typing import Any

import torch
from torch import Tensor, nn

from detector.config.checks import require
from detector.config.extensions import load_object
from detector.config.groups import DataConfig
from detector.preprocess.representation import representation_of

__all__ = ["Columns", "EventsToTensor", "diff", "event_cube", "histo", "signed_event_cube", "timesurface"]

Columns = tuple[Tensor, Tensor, Tensor, Tensor]
"""Events as tensors x, y, p, t, each (N,)."""


def histo(events: Columns, out: Tensor, total: int, shift: int = 0, bound: float = 5.0) -> Tensor:
    """Count events by time bin, micro-bin, polarity and pixel. Return `out`.

    Each of the T time bins is divided into C / 2 equal micro-bins. Channel p * C / 2 + j contains micro-bin j of its
    time bin, with p = 0 for OFF events and 1 for ON events.

    Args:
        events: integer columns x, y, p, t, with t in microseconds from the start of the first time bin.
        out: (T, C, H, W) counts as bytes, or counts divided by `bound` as floats; overwritten.
        total: duration of all T time bins in microseconds. Events outside the bins are dropped.
        shift: exponent k; a pixel of `out` covers 2^k x 2^k sensor pixels.
        bound: count at which a pixel saturates.
    """
    bins, utbins, height, width = out.size(0), out.size(1) // 2, out.size(2), out.size(3)
    x, y, p, t, bounds = _into_bins(events, _edges(bins * utbins, total))
    # Bins are computed one at a time, so that the counts stay in the cache. On a CPU, the temporary tensors should fit
    # into the cache, too. On a GPU, there should be few kernel launches. Floats count exactly up to 2^24.
    step = 1 << 16 if t.device.type == "cpu" else max(t.numel(), 1)
    ones = torch.ones(min(step, t.numel()), dtype=torch.float32, device=t.device)
    counts = torch.empty(2 * height * width, dtype=torch.float32, device=t.device)
    frames = out.view(bins, 2, utbins, height, width)
    for k in range(bins * utbins):
        counts.zero_()
        for start in range(bounds[k], bounds[k + 1], step):
            part = slice(start, min(start + step, bounds[k + 1]))
            index = _pixels(x[part], y[part], p[part], height, width, shift, True)
            counts.scatter_add_(0, index, ones[: index.numel()])
        _scale(counts.view(2, height, width), bound, frames[k // utbins, :, k % utbins])
    return out


def diff(events: Columns, out: Tensor, total: int, shift: int = 0, bound: float = 5.0) -> Tensor:
    """Count ON minus OFF events by time bin and pixel. Return `out`.

    Args:
        events: integer columns x, y, p, t, with t in microseconds from the start of the first time bin.
        out: (T, 1, H, W) differences as int8, or differences divided by `bound` as floats; overwritten.
        total: duration of all T time bins in microseconds. Events outside the bins are dropped.
        shift: exponent k; a pixel of `out` covers 2^k x 2^k sensor pixels.
        bound: difference at which a pixel saturates.
    """
    height, width = out.size(2), out.size(3)
    x, y, p, t, bounds = _into_bins(events, _edges(out.size(0), total))
    for k in range(out.size(0)):
        part = slice(bounds[k], bounds[k + 1])
        index = _pixels(x[part], y[part], p[part], height, width, shift, False)
        net = torch.zeros(height * width, dtype=torch.int32, device=t.device)
        net.scatter_add_(0, index, p[part].to(torch.int32) * 2 - 1)
        _scale(net.view(1, height, width), bound, out[k])
    return out


def timesurface(events: Columns, out: Tensor, total: int, shift: int = 0, bound: float = 5.0) -> Tensor:
    """Compute the time of the last event by time bin, micro-bin, polarity and pixel; 0 without an event. Return `out`.

    Each of the T time bins is divided into C / 2 equal micro-bins. Channel 2 * j + p contains micro-bin j of its time
    bin, with p = 0 for OFF events and 1 for ON events.

    Args:
        events: integer columns x, y, p, t, with t in microseconds from the start of the first time bin.
        out: (T, C, H, W) times from 0 to 1 as floats or 0 to 255 as bytes; overwritten. 1 or 255 is the last
            microsecond of the micro-bin.
        total: duration of all T time bins in microseconds. Events outside the bins are dropped.
        shift: exponent k; a pixel of `out` covers 2^k x 2^k sensor pixels.
        bound: has no effect; part of the signature that all representations share.
    """
    height, width = out.size(2), out.size(3)
    frames = out.view(-1, 2, height, width)
    edges = _edges(frames.size(0), total)
    x, y, p, t, bounds = _into_bins(events, edges)
    for k in range(frames.size(0)):
        part = slice(bounds[k], bounds[k + 1])
        index = _pixels(x[part], y[part], p[part], height, width, shift, True)
        last = torch.zeros(2 * height * width, dtype=torch.int64, device=t.device)
        last.scatter_reduce_(0, index, t[part] - (edges[k] - 1), "amax")
        duration = max(edges[k + 1] - edges[k], 1)
        if out.is_floating_point():
            frames[k] = (last.to(torch.float32) / duration).view(2, height, width)
        else:
            levels = torch.div(last * 255 + (duration - 1), duration, rounding_mode="floor")
            frames[k] = levels.to(out.dtype).view(2, height, width)
    return out


def event_cube(events: Columns, out: Tensor, total: int, shift: int = 0, bound: float = 5.0) -> Tensor:
    """Divide each event linearly between the two nearest micro-bins of its time bin. Return `out`.

    Each of the T time bins is divided into C / 2 equal micro-bins. Channel 2 * j + p contains micro-bin j of its time
    bin, with p = 0 for OFF events and 1 for ON events.

    Args:
        events: integer columns x, y, p, t, with t in microseconds from the start of the first time bin.
        out: (T, C, H, W) sums scaled to 0 to 1 as floats or 0 to 255 as bytes; overwritten.
        total: duration of all T time bins in microseconds. Events outside the bins are dropped.
        shift: exponent k; a pixel of `out` covers 2^k x 2^k sensor pixels.
        bound: sum at which a sensor pixel saturates.
    """
    return _cube(events, out, total, shift, bound, 2)


def signed_event_cube(events: Columns, out: Tensor, total: int, shift: int = 0, bound: float = 5.0) -> Tensor:
    """Divide each event linearly between the two nearest micro-bins of its time bin. Return `out`.

    ON events count +1, OFF events -1. Each of the T time bins is divided into C equal micro-bins, one per channel.

    Args:
        events: integer columns x, y, p, t, with t in microseconds from the start of the first time bin.
        out: (T, C, H, W) sums scaled to -1 to 1 as floats or -127 to 127 as int8; overwritten.
        total: duration of all T time bins in microseconds. Events outside the bins are dropped.
        shift: exponent k; a pixel of `out` covers 2^k x 2^k sensor pixels.
        bound: sum at which a sensor pixel saturates.
    """
    return _cube(events, out, total, shift, bound, 1)


class EventsToTensor(nn.Module):
    """Module that computes frames from tensors of events. It can be compiled with `torch.jit.script`.

    Args:
        data: settings of the data. `preprocess`, the settings of this representation, and `delta_t` are used.
        num_tbins: number T of time bins per call; each bin has `data.delta_t` microseconds.
        height: rows of the frames.
        width: columns of the frames.
        downsampling_factor: exponent k; a pixel of the frames covers 2^k x 2^k sensor pixels.

    Raises:
        ValueError: the representation has no `torch_form`.
    """

    def __init__(self, data: DataConfig, num_tbins: int, height: int, width: int, downsampling_factor: int = 0) -> None:
        super().__init__()
        representation = representation_of(data)
        allowed = "a representation with a torch_form"
        require(bool(representation.torch_form), "data.preprocess", data.preprocess, allowed)
        self.function: Any = load_object(representation.torch_form)
        self.shape = [num_tbins, representation.channels, height, width]
        self.total = num_tbins * data.delta_t
        self.downsampling_factor = downsampling_factor
        self.max_incr_per_pixel = float(data.max_incr_per_pixel)

    def forward(self, x: Tensor, y: Tensor, p: Tensor, t: Tensor, start: int) -> Tensor:
        """Compute (T, C, H, W) float32 frames.

        Args:
            x: (N,) pixel columns on the sensor, of any integer type.
            y: (N,) pixel rows on the sensor, of any integer type.
            p: (N,) polarities 0 or 1, of any integer type.
            t: (N,) times in microseconds, of any integer type. Events outside the T bins are dropped.
            start: start of the first bin in microseconds.
        """
        # Integers are subtracted before the conversion to float32, in which times above 16.7 s lose microseconds.
        events = (x, y, p, t.to(torch.int64) - start)
        out = torch.empty(self.shape, dtype=torch.float32, device=t.device)
        return self.function(events, out, self.total, self.downsampling_factor, self.max_incr_per_pixel)


def _scale(counts: Tensor, bound: float, out: Tensor) -> None:
    """Clip counts to +- `bound` and write them to `out`. A float output gets counts / bound."""
    if out.is_floating_point():
        out.copy_(torch.div(counts, bound).clamp_(-1.0, 1.0))
    else:
        out.copy_(counts.clamp(int(-bound), int(bound)))


def _cube(events: Columns, out: Tensor, total: int, shift: int, bound: float, polarities: int) -> Tensor:
    height, width, bins, utbins = out.size(2), out.size(3), out.size(0), out.size(1) // polarities
    x, y, p, t, bounds = _into_bins(events, _edges(bins, total))
    plane = polarities * height * width
    highest = 255.0 if out.dtype == torch.uint8 else 127.0 if out.dtype == torch.int8 else 1.0
    gain = highest / (bound * 4.0**shift)
    for k in range(bins):
        part = slice(bounds[k], bounds[k + 1])
        index = _pixels(x[part], y[part], p[part], height, width, shift, polarities == 2)
        # Time since the centre of the first micro-bin, as an integer in units of 1 / (2 * total) micro-bins.
        since = (t[part] * bins - k * total) * (2 * utbins) - total
        left = torch.div(since, 2 * total, rounding_mode="floor")
        share = (since - left * (2 * total)).to(torch.float32) / (2 * total)
        sign = torch.ones_like(share) if polarities == 2 else (p[part].to(torch.float32) * 2 - 1)
        # An extra micro-bin before the first one and after the last one takes the weights outside the time bin.
        sums = torch.zeros((utbins + 2) * plane, dtype=torch.float32, device=t.device)
        sums.scatter_add_(0, index + (left + 1) * plane, (1 - share) * sign)
        sums.scatter_add_(0, index + (left + 2) * plane, share * sign)
        values = (sums[plane : (utbins + 1) * plane] * gain).clamp(-highest, highest)
        if highest > 1:
            values = torch.floor(values + 0.5)
        out[k] = values.to(out.dtype).view(out[k].shape)
    return out


def _into_bins(events: Columns, edges: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    """Sort events by time, and divide them at the times `edges`.

    Returns:
        The sorted columns x, y, p, t, with t as int64; a list with the index of the first event at or after each edge.
    """
    x, y, p, t = events
    t = t.to(torch.int64).contiguous()
    if bool((t[1:] < t[:-1]).any()):
        order = torch.argsort(t, stable=True)
        x, y, p, t = x[order], y[order], p[order], t[order]
    bounds: list[int] = torch.searchsorted(t, torch.tensor(edges, dtype=torch.int64, device=t.device)).tolist()
    return x, y, p, t, bounds


def _edges(bins: int, total: int) -> list[int]:
    """Return the first whole microsecond of each bin and the end of the last, if all bins last `total` microseconds."""
    return [-(-k * total // bins) for k in range(bins + 1)]


def _pixels(x: Tensor, y: Tensor, p: Tensor, height: int, width: int, shift: int, split: bool) -> Tensor:
    """Return the (N,) int64 index of each event's pixel in a flattened frame.

    If `split` is True, the plane of ON events follows the plane of OFF events. Otherwise, both share one plane.
    """
    # torch cannot compute with uint16. Other types are checked before the conversion, which could lose bits.
    x, y = [column.to(torch.int32) if column.dtype == torch.uint16 else column for column in [x, y]]
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
