"""Command line for detection without the package `evforge`: `python -m detector predict RECORDING --model MODEL`."""

import argparse
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: detect objects in a recording, and write the detections to files.

    Args:
        arguments: command-line arguments without the program name; `sys.argv[1:]` if None.

    Returns:
        Exit code: 0 after success, 2 after a user error. The error is printed to stderr in one line.
    """
    values = _parser().parse_args(arguments)
    from detector.config.groups import DataConfig
    from detector.inference.predictor import Predictor
    from detector.inference.recording import predict

    try:
        predictor = Predictor(
            values.model,
            score_thresh=values.score_thresh,
            height=values.sensor_height,
            width=values.sensor_width,
            downsampling=values.downsampling,
        )
        data = DataConfig(
            max_faulty_events=values.max_faulty_events,
            event_format=values.event_format,
            event_columns=values.event_columns,
        )
        found = predict(values.recording, predictor, values.output, data=data)
        print(found.text())
    except (ValueError, OSError) as error:
        print(f"detector: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("written:", *values.output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m detector", allow_abbrev=False)
    verbs = parser.add_subparsers(required=True, metavar="predict")
    verb = verbs.add_parser("predict", help="detect objects in a recording", allow_abbrev=False)
    verb.add_argument("recording", help="DAT, RAW (EVT2, EVT2.1, EVT3), HDF5, CSV, NPY, NPZ or AEDAT4 file")
    verb.add_argument("--model", required=True, help="exported model: model.ptjit or its folder")
    verb.add_argument(
        "--output",
        required=True,
        nargs="+",
        metavar="FILE",
        help="files to write: .npy, .csv, .json (COCO), .gif or .mp4",
    )
    verb.add_argument("--score_thresh", type=float, metavar="X", help="lowest score; the exported one if not given")
    verb.add_argument("--sensor_height", type=int, metavar="N", help="in pixels, for recordings that do not contain it")
    verb.add_argument("--sensor_width", type=int, metavar="N", help="in pixels, for recordings that do not contain it")
    verb.add_argument(
        "--downsampling",
        type=int,
        metavar="K",
        help="divide the sensor size by 2^K; by default to the size of the training",
    )
    verb.add_argument(
        "--data.max_faulty_events",
        dest="max_faulty_events",
        type=float,
        default=0.001,
        metavar="X",
        help="share of faulty events above which the recording is refused (0.001); 10 always pass, with 0 none",
    )
    verb.add_argument(
        "--data.event_format",
        dest="event_format",
        default="auto",
        metavar="NAME",
        help="format of the recording, auto: found by its content; or the import path of a reader",
    )
    verb.add_argument(
        "--data.event_columns",
        dest="event_columns",
        metavar="NAMES",
        help="order of the columns of a table without names, such as t,x,y,p",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
