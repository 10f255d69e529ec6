import pytest
import torch
from counting_detector import Counting
from toy_dataset import HEIGHT, WIDTH

from detector.data.dataset import SequenceDataset
from detector.evaluation.collector import FramePredictions, Protocol
from detector.evaluation.detect import detect, detect_batch


def scores(detector, batches):
    """Score of the only box of each frame, by (recording, frame)."""
    return {
        (info.path, start + t): float(boxes[t][b]["scores"])
        for batch, boxes in detect(detector, batches, 0.001, 0.5)
        for b, (info, start) in enumerate(batch["video_infos"])
        for t in range(len(boxes))
        if info is not None
    }


def test_labelled_frames_of_every_recording_are_collected(loader):
    predictions = FramePredictions({0: "block", 1: "tower"}, [0, 1], Protocol())
    for batch, boxes in detect(Counting(), loader, 0.001, 0.5):
        predictions.add(boxes, batch["video_infos"], batch["frame_is_labeled"])
    recordings = predictions.recordings()
    assert predictions.size == (HEIGHT, WIDTH)
    assert [len(recording.detections) for recording in recordings] == [12, 12, 12]
    assert [len(recording.labels) for recording in recordings] == [24, 24, 24]
    assert (recordings[0].labels == recordings[0].all_labels).all()


def test_a_recording_is_detected_as_if_it_were_alone(loader):
    """Three recordings in two streams: the third begins where another has ended, with a clear state."""
    dataset = loader.dataset.dataset
    together = scores(Counting(), loader)
    for file in dataset.files:
        alone = SequenceDataset([file], dataset.targets, 1, train=False)
        for key, score in scores(Counting(), (alone[0, step] for step in range(len(alone)))).items():
            assert together[key] == pytest.approx(score, abs=1e-6), key


def test_the_state_is_clear_before_and_after_also_after_an_error(loader):
    detector = Counting()
    detector.total, detector.count = torch.full((2,), 50.0), torch.ones(2)
    first = next(iter(scores(detector, loader).values()))
    assert first == pytest.approx(next(iter(scores(Counting(), loader).values())))
    assert detector.count.sum() == 0
    for _ in detect(detector, loader, 0.001, 0.5):
        assert detector.count.sum() > 0
        break
    assert detector.count.sum() == 0


def test_a_first_batch_from_the_middle_of_a_recording_does_not_see_the_state_of_before():
    detector = Counting()
    detector.total, detector.count = torch.full((2,), 50.0), torch.ones(2)
    batch = {"inputs": torch.ones(1, 2, 1, 4, 4), "mask_keep_memory": torch.ones(2)}
    ((_, boxes),) = detect(detector, [batch], 0.001, 0.5)
    assert [float(found["scores"]) for found in boxes[0]] == pytest.approx([1.1, 1.1])  # 0.1 + the mean input


def test_a_batch_clears_the_streams_that_begin_in_it():
    detector = Counting()
    batch = {"inputs": torch.ones(1, 2, 1, 4, 4), "mask_keep_memory": torch.tensor([0.0, 0.0])}
    detect_batch(detector, batch, 0.001, 0.5)
    detect_batch(detector, {"inputs": torch.zeros(1, 2, 1, 4, 4), "mask_keep_memory": torch.tensor([1.0, 0.0])}, 0, 0.5)
    assert detector.count.tolist() == [2, 1]
    assert detector.total.tolist() == [1, 0]
