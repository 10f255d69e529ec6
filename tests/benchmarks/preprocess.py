"""Preprocessing of clustered events against its peers, one thread: milliseconds, ratios, share of the copy limit.

`python tests/benchmarks/preprocess.py [--events N] [--rounds N] [--small]`. The rounds of all forms of a row are
interleaved in one process and their medians compared: absolute figures depend on the machine, ratios carry over. The
limit is copying the columns that a form reads and zeroing what it writes. Rows of peers that are missing are left out:
`pip install tonic expelliarmus`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rounds
import torch

from detector.events import EventCD, open_events, write_dat
from detector.events.arrays import ColumnBuffer
from detector.preprocess import event_cube, histo, stacked_histo, timesurface
from detector.preprocess import torch_form as in_torch

DELTA_T = 50_000
SIZES = ((720, 1280, 20), (240, 304, 200))
EVENTS_AT_ONCE = 500_000
"""Events of one reading: they stay in the processor's cache."""


class Row(NamedTuple):
    """A form of ours, a peer, the ratio to reach, and how many bytes the limit copies and zeroes."""

    name: str
    ours: Callable[[], object]
    peer: Callable[[], object]
    target: float
    columns: int
    output: int


class Scene:
    """Events of 40 moving clusters and some noise over T frames of height x width."""

    def __init__(self, count: int, height: int, width: int, frames: int) -> None:
        rng = np.random.default_rng(0)
        self.height, self.width, self.frames, self.total = height, width, frames, frames * DELTA_T
        t = np.sort(rng.integers(0, self.total, count))
        cluster = rng.integers(0, 40, count)
        x = (rng.random(40) * width)[cluster] + rng.normal(0, width / 50, count) + 0.1 * width * t / self.total
        y = (rng.random(40) * height)[cluster] + rng.normal(0, height / 50, count)
        noise = rng.random(count) < 0.1
        x[noise], y[noise] = rng.random(noise.sum()) * width, rng.random(noise.sum()) * height
        self.x = x.clip(0, width - 1).astype(np.uint16)
        self.y = y.clip(0, height - 1).astype(np.uint16)
        self.p = rng.integers(0, 2, count).astype(np.int8)
        self.t = t.astype(np.int64)
        self.columns = self.x, self.y, self.p, self.t
        self.tensors = [torch.from_numpy(column.astype(np.int64)) for column in self.columns]
        self.columns_of_reader = [torch.from_numpy(column) for column in self.columns]
        self.bounds = np.searchsorted(t, np.arange(frames + 1) * DELTA_T).tolist()

    def events(self, p_type: str = "<i2") -> np.ndarray:
        events = np.empty(self.x.size, [("x", "<u2"), ("y", "<u2"), ("p", p_type), ("t", "<i8")])
        for name, column in zip("xypt", self.columns, strict=True):
            events[name] = column
        return events

    def output(self, channels: int, dtype: type) -> np.ndarray:
        return np.zeros((self.frames, channels, self.height, self.width), dtype)


def histo_rows(scene: Scene) -> Iterator[Row]:
    output, shape = scene.output(2, np.uint8), [scene.frames, 2, scene.height, scene.width]
    x, y, p, _ = scene.tensors

    def ours() -> None:
        histo(scene.columns, output, scene.total)

    def per_bin_put() -> None:
        frames, one = torch.from_numpy(output), torch.ones((), dtype=torch.uint8)
        for k, frame in enumerate(frames):
            part = slice(scene.bounds[k], scene.bounds[k + 1])
            index = (p[part] * scene.height + y[part]) * scene.width + x[part]
            frame.zero_().put_(index, one.expand(index.numel()), accumulate=True).clamp_(max=5)

    counts = torch.zeros(shape)  # memory that both use again

    def unchunked_index_put(columns: list[torch.Tensor]) -> None:
        x, y, p, t = (column.long() for column in columns)
        counts.zero_()
        counts.index_put_((t // DELTA_T, p, y, x), torch.ones(()), accumulate=True)
        counts.clamp_(max=5).div_(5)

    if find_spec("tonic"):
        from tonic.functional import to_frame_numpy

        events = scene.events()
        size = scene.width, scene.height, 2
        yield Row(
            "histo uint8 / tonic to_frame",
            ours,
            lambda: to_frame_numpy(events, size, n_time_bins=scene.frames),
            20,
            5,
            output.nbytes,
        )
    yield Row("histo uint8 / torch put_ by bin", ours, per_bin_put, 2.5, 5, output.nbytes)
    for kind, tensors, width in (("as read", scene.columns_of_reader, 13), ("all int64", scene.tensors, 32)):
        yield Row(
            f"torch histo / 4-D index_put_, {kind}",
            lambda tensors=tuple(tensors): in_torch.histo(tensors, counts, scene.total),
            lambda tensors=tensors: unchunked_index_put(tensors),
            5,
            width,
            4 * output.nbytes,
        )


def stacked_rows(scene: Scene) -> Iterator[Row]:
    bins, (x, y, p, t) = 10, scene.tensors
    output = scene.output(2 * bins, np.uint8)

    def whole_stack_at_once() -> None:
        """As RVT does it, frame by frame."""
        for k in range(scene.frames):
            part = slice(scene.bounds[k], scene.bounds[k + 1])
            stack = torch.zeros(2 * bins * scene.height * scene.width, dtype=torch.int16)
            times = t[part]
            bin_of = ((times - times[0]) * bins // max(int(times[-1] - times[0]), 1)).clamp(max=bins - 1)
            index = ((p[part] * bins + bin_of) * scene.height + y[part]) * scene.width + x[part]
            stack.index_put_((index,), torch.ones_like(index, dtype=torch.int16), accumulate=True)
            stack.clamp_(max=255).to(torch.uint8)

    yield Row(
        "stacked_histo, 10 bins / RVT",
        lambda: stacked_histo(scene.columns, output, scene.total, max_incr_per_pixel=255, num_utbins=bins),
        whole_stack_at_once,
        4,
        5,
        output.nbytes,
    )


def cube_rows(scene: Scene) -> Iterator[Row]:
    utbins, (x, y, p, t) = 3, scene.tensors
    output = scene.output(utbins, np.float32)

    def ours() -> None:
        event_cube(scene.columns, output, scene.total, num_utbins=utbins, split_polarity=False)

    def event_volume() -> None:
        """In the manner of OpenEB's function: all frames at once, two index_put_."""
        volume = torch.zeros(scene.frames, utbins, scene.height, scene.width)
        frame, sign = t // DELTA_T, p.float() * 2 - 1
        place = (t - frame * DELTA_T).float() * (utbins / DELTA_T) - 0.5
        left = place.floor().clamp(0, utbins - 1)
        share = (1 - (left - place).abs()).clamp(min=0)
        volume.index_put_((frame, left.long(), y, x), sign * share, accumulate=True)
        right = (left + 1).clamp(max=utbins - 1).long()
        volume.index_put_((frame, right, y, x), sign * (1 - share), accumulate=True)

    if find_spec("tonic"):
        from tonic.functional import to_voxel_grid_numpy

        events = scene.events()
        size, polarity = (scene.width, scene.height, 2), events["p"].copy()

        def voxel_grid() -> None:
            events["p"] = polarity  # it changes its caller's
            to_voxel_grid_numpy(events, size, n_time_bins=scene.frames * utbins)

        yield Row("event_cube float32 / tonic", ours, voxel_grid, 4, 13, output.nbytes)
    yield Row("event_cube float32 / event_volume", ours, event_volume, 4, 13, output.nbytes)


def surface_rows(scene: Scene) -> Iterator[Row]:
    output = scene.output(2, np.float32)

    def assignment() -> None:
        for k, frame in enumerate(output):
            part = slice(scene.bounds[k], scene.bounds[k + 1])
            frame[:] = 0
            times = (scene.t[part] - (k * DELTA_T - 1)).astype(np.float32) / np.float32(DELTA_T)
            frame[scene.p[part], scene.y[part], scene.x[part]] = times

    yield Row(
        "timesurface float32 / numpy by bin",
        lambda: timesurface(scene.columns, output, scene.total),
        assignment,
        2,
        13,
        output.nbytes,
    )


def dat_rows(scene: Scene, folder: Path) -> Iterator[Row]:
    if not find_spec("expelliarmus"):
        return
    from expelliarmus import Wizard

    path = folder / "scene.dat"
    write_dat(path, scene.events().astype(EventCD), scene.height, scene.width)
    at_once = max(1, EVENTS_AT_ONCE * scene.frames // scene.x.size)
    frames, buffer = np.empty((at_once, 2, scene.height, scene.width), np.uint8), ColumnBuffer()

    def one_pass() -> None:
        with open_events(path) as reader:
            for start in range(0, scene.total, at_once * DELTA_T):
                some = frames[: (scene.total - start) // DELTA_T]
                x, y, p, t = reader.read_columns(start, start + len(some) * DELTA_T, buffer)
                t -= start
                histo((x, y, p, t), some, len(some) * DELTA_T)

    wizard = Wizard(encoding="dat", fpath=path)
    yield Row("DAT to histo / expelliarmus decodes", one_pass, wizard.read, 1, 8, scene.output(2, np.uint8).nbytes)


def measure(row: Row, scene: Scene, number: int) -> rounds.Row:
    source = np.ones(row.columns * scene.x.size, np.uint8)
    copy, output = np.empty_like(source), np.empty(row.output, np.uint8)

    def limit() -> None:
        np.copyto(copy, source)
        output.fill(0)

    found = rounds.medians({"ours": row.ours, "peer": row.peer, "limit": limit}, number)
    ours, _, peer = row.name.partition(" / ")
    figures = f"{1e3 * found['ours']:.1f} ms", f"{1e3 * found['peer']:.1f} ms"
    ratio, share = found["peer"] / found["ours"], found["limit"] / found["ours"]
    return rounds.Row(f"{ours}, {scene.width}x{scene.height}", peer, *figures, ratio, row.target, share)


def main() -> None:
    parser = rounds.arguments(__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="number of events (10 million)")
    args = rounds.parse(parser)
    events, results = 5_000 if args.small else args.events, []
    with tempfile.TemporaryDirectory() as folder:
        for size in [(24, 32, 4)] if args.small else SIZES:
            scene = Scene(events, *size)
            for rows in (histo_rows, stacked_rows, cube_rows, surface_rows, lambda s: dat_rows(s, Path(folder))):
                results += [measure(row, scene, args.rounds) for row in rows(scene)]
    for peer in ("tonic", "expelliarmus"):
        if not find_spec(peer):
            print(f"left out: {peer}, pip install {peer}")
    rounds.print_rows("preprocess", results, events=events)


if __name__ == "__main__":
    main()
