import contextlib

import pytest
import torch
from toy_dataset import HEIGHT, WIDTH, write_toy_dataset

from detector.config import Config
from detector.data_factory import psee_data
from detector.evaluation.predictions import FramePredictions, Protocol
from detector.evaluation.streams import check_state_leak, stream

CPU = torch.device("cpu")
SETTINGS = {"data.num_tbins": 5, "data.batch_size": 2, "data.num_workers": 0, "data.min_box_diag": 0}


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    folder = write_toy_dataset(tmp_path_factory.mktemp("streams") / "dataset", {"test": 3}, num_frames=12)
    config = Config().with_overrides({**SETTINGS, "data.min_box_side": 0, "data.dataset_path": str(folder)})
    return psee_data(config.to_hparams(), "test")


class Counting:
    """Answers each frame with one box, whose score is the mean of all inputs of its stream since the last reset."""

    def __init__(self, forgets=True, looks_aside=False):
        self.forgets, self.looks_aside = forgets, looks_aside
        self.reset_all()

    def reset_all(self):
        self.total, self.count = torch.zeros(1), torch.zeros(1)

    def reset(self, mask):
        if self.total.shape != mask.shape:
            self.total, self.count = torch.zeros(len(mask)), torch.zeros(len(mask))
        if self.forgets:
            self.total, self.count = self.total * mask, self.count * mask

    def get_boxes(self, x, score_thresh, nms_thresh):
        found = []
        for frame in x:
            self.total = self.total + frame.mean((1, 2, 3))
            self.count = self.count + 1
            scores = 0.1 + self.total / self.count
            if self.looks_aside:
                scores = scores + 0.1 * len(scores)
            found.append([self._answer(score) for score in scores])
        return found

    @staticmethod
    def _answer(score):
        box = torch.tensor([[0.0, 0.0, 20.0, 20.0]])
        return {"boxes": box, "scores": score[None], "labels": torch.ones(1, dtype=torch.long)}


def test_streams_that_keep_to_themselves_pass(loader):
    found = check_state_leak(Counting(), loader.dataset.dataset, 0.5, CPU)
    assert (found.files, found.frames, found.passed) == (3, 15, True)
    assert found.detections == 2 * 2 * 3 * 12, "both sides of each frame, in the order forth and in that back"
    assert found.changed == 0
    assert found.max_score_change < 1e-6


@pytest.mark.parametrize("fault", [{"forgets": False}, {"looks_aside": True}])
def test_a_leak_is_found(loader, fault):
    found = check_state_leak(Counting(**fault), loader.dataset.dataset, 0.5, CPU)
    assert not found.passed
    assert found.changed > 0.01


def test_stream_collects_labelled_frames_of_every_recording(loader):
    predictions = FramePredictions({0: "block", 1: "tower"}, [0, 1], Protocol(0, 50_000, 0, 0, 0.001, 0.5))
    stream(Counting(), loader, predictions, CPU, contextlib.nullcontext())
    recordings = predictions.recordings()
    assert predictions.size == (HEIGHT, WIDTH)
    assert [len(recording.detections) for recording in recordings] == [12, 12, 12]
    assert [len(recording.labels) for recording in recordings] == [24, 24, 24]
    assert (recordings[0].labels == recordings[0].all_labels).all()
