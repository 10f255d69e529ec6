import contextlib

import torch
from counting_detector import Counting
from toy_dataset import HEIGHT, WIDTH

from detector.evaluation.collector import FramePredictions, Protocol
from detector.evaluation.detect import stream

CPU = torch.device("cpu")


def test_stream_collects_labelled_frames_of_every_recording(loader):
    predictions = FramePredictions({0: "block", 1: "tower"}, [0, 1], Protocol(0, 50_000, 0, 0, 0.001, 0.5))
    stream(Counting(), loader, predictions, CPU, contextlib.nullcontext())
    recordings = predictions.recordings()
    assert predictions.size == (HEIGHT, WIDTH)
    assert [len(recording.detections) for recording in recordings] == [12, 12, 12]
    assert [len(recording.labels) for recording in recordings] == [24, 24, 24]
    assert (recordings[0].labels == recordings[0].all_labels).all()
