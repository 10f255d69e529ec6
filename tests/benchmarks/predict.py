"""Streaming detection with an untrained Vanilla(16, 256): real-time factor, share of the network, memory over minutes.

`python tests/benchmarks/predict.py [--seconds S] [--rounds N] [--minutes M] [--threads N]`. A synthetic recording of a
1280x720 sensor enters networks of 640x360, one of a 304x240 sensor networks of 304x240. The rounds of all forms of
export are interleaved in one process and their medians taken: absolute figures depend on the machine. "network alone"
is its time, on frames in memory, over that of the stream. For memory (`--minutes`) the recording is repeated with its
times moved on, as chunks of 10 ms that a live camera would send, and the process' resident memory is read at the end of
each minute of the stream.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import torch
from rounds import Row, arguments, parse, print_rows

from detector.config import Config
from detector.config.extensions import EXPORT_FORMS
from detector.events import EventReader, open_events, write_evt3
from detector.inference.predictor import Predictor
from detector.jitting import SSD, export_ssd
from detector.single_stage_detector import SingleStageDetector
from detector.synthetic.recordings import make_recording

FORMS = [
    (form, precision)
    for form, precision in (
        ("torchscript", "float32"),
        ("torchscript-frozen", "float32"),
        ("torchscript-cpu", "float32"),
        ("torchscript-cpu", "bf16"),
        ("torchscript-int8", "bf16"),
    )
    if not EXPORT_FORMS[form].missing(precision)  # of this processor
]
SIZES = {"640x360": (720, 1280, 1), "320x180": (720, 1280, 2), "304x240": (240, 304, 0), "80x60": (60, 80, 0)}
"""Height and width of the sensor, and k of its division by 2^k, by the size of the network."""
DELTA_T, CHUNK_US = 50_000, 10_000
WARM_FRAMES = 4


def export_untrained(folder: Path, widths: tuple[int, int], form: str, precision: str, height: int, width: int) -> Path:
    torch.manual_seed(0)
    net = SingleStageDetector("Vanilla", 2, 3, *widths, "PSEE_ANCHORS").eval()
    names = ["pedestrian", "two wheeler", "car"]
    params = {"classes": names, "label_map": dict(enumerate(names)), "height": height, "width": width}
    values = vars(Config().to_hparams()) | params
    export_ssd(SSD(net), values, folder, nms_thresh=0.5, score_thresh=0.4, form=form, precision=precision)
    return folder


def write_recording(path: Path, seconds: float, height: int, width: int) -> float:
    """A simulated street; its events per second, in millions."""
    events, _ = make_recording(np.random.default_rng(0), seconds, height, width, DELTA_T)
    write_evt3(path, events, height, width)
    return events.size / seconds / 1e6


def stream_seconds(predictor: Predictor, reader: EventReader, frames: int) -> float:
    """Time of a frame, from the events in the file to boxes."""
    boxes = predictor(reader)
    next(boxes)
    begin = time.perf_counter()
    done = sum(1 for _ in islice(boxes, frames))
    return (time.perf_counter() - begin) / done


def network_seconds(predictor: Predictor, shape: tuple[int, ...], frames: int) -> float:
    """Time of a frame that is in memory already."""
    tensors = np.random.default_rng(0).integers(0, 2, shape, np.uint8)
    begin = time.perf_counter()
    for _ in range(frames):
        predictor._detect(tensors)
    return (time.perf_counter() - begin) / frames


def measure(folder: Path, size: str, args: argparse.Namespace) -> Iterator[Row]:
    height, width, shift = SIZES[size]
    shape = 1, 1, 2, height >> shift, width >> shift
    rate = write_recording(folder / f"{size}.raw", args.seconds, height, width)
    predictors = {
        (form, precision): Predictor(
            export_untrained(folder / f"{size}-{form}-{precision}", args.widths, form, precision, *shape[3:])
        )
        for form, precision in FORMS
    }
    streams: dict[tuple[str, str], list[float]] = {key: [] for key in predictors}
    networks: dict[tuple[str, str], list[float]] = {key: [] for key in predictors}
    frames = max(1, int(args.seconds * 1e6) // DELTA_T - 2)
    with open_events(folder / f"{size}.raw") as reader:
        for predictor in predictors.values():
            stream_seconds(predictor, reader, WARM_FRAMES)
        for _ in range(args.rounds):
            for key, predictor in predictors.items():
                streams[key].append(stream_seconds(predictor, reader, frames))
                networks[key].append(network_seconds(predictor, shape, frames))
    for (form, precision), times in streams.items():
        frame_s = statistics.median(times)
        share = statistics.median(networks[form, precision]) / frame_s
        yield Row(
            f"stream {size}, {form} {precision}, {rate:.1f} Mev/s",
            f"real time (network alone: {share:.0%})",
            f"{1e3 * frame_s:.1f} ms per frame",
            f"{DELTA_T / 1e3:g} ms",
            DELTA_T / 1e6 / frame_s,
        )


def repeated(reader: EventReader) -> Iterator[np.ndarray]:
    """The recording over and over, as a live camera would send it."""
    first, last = reader.first_t, reader.last_t
    assert first is not None and last is not None
    length, number = -(-(last + 1 - first) // DELTA_T) * DELTA_T, 0
    while True:
        for start in range(first, last + 1, CHUNK_US):
            events = reader.read(start, min(start + CHUNK_US, last + 1))
            events["t"] += number * length
            yield events
        number += 1


def memory(folder: Path, size: str, args: argparse.Namespace) -> dict:
    """Resident memory in MiB at the end of each minute of a stream."""
    height, width, _ = SIZES[size]
    form, precision = FORMS[-1]
    predictor = Predictor(folder / f"{size}-{form}-{precision}", height=height, width=width)
    process, found = psutil.Process(), []
    per_minute = 60_000_000 // DELTA_T
    begin = time.perf_counter()
    with open_events(folder / f"{size}.raw") as reader:
        for number, _ in enumerate(islice(predictor(repeated(reader)), args.minutes * per_minute), 1):
            if number % per_minute == 0:
                found.append(process.memory_info().rss / 2**20)
                print(f"{size}: minute {number // per_minute}: {found[-1]:.0f} MiB", flush=True)
    seconds = time.perf_counter() - begin
    return {"size": size, "form": form, "precision": precision, "MiB": found, "real_time": 60 * args.minutes / seconds}


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of the recordings")
    parser.add_argument("--minutes", type=int, default=0, help="minutes of stream for the memory")
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=["640x360", "304x240"], help="sizes of the network"
    )
    args = parse(parser)
    args.widths = (16, 256)
    if args.small:
        args.seconds, args.sizes, args.widths = 0.4, ["80x60"], (2, 8)
    with tempfile.TemporaryDirectory() as name:
        rows = [row for size in args.sizes for row in measure(Path(name), size, args)]
        memories = [memory(Path(name), size, args) for size in args.sizes if args.minutes]
    print_rows("predict", rows, threads=args.threads, cores=os.cpu_count(), memory=memories)


if __name__ == "__main__":
    main()
