import pytest
import torch
from counting_detector import Counting

from detector.evaluation.analysis.state_leak import check_state_leak

CPU = torch.device("cpu")


def test_streams_that_keep_to_themselves_pass(loader):
    found = check_state_leak(Counting(), loader.dataset.dataset, 0.5, CPU)
    assert (found.files, found.frames, found.passed) == (3, 15, True)
    assert found.detections == 2 * 2 * 3 * 12, "both sides of each frame, in the order forth and in that back"
    assert found.changed == 0
    assert found.max_score_change < 1e-6


def test_without_detections_there_is_no_verdict(loader):
    detector = Counting()
    detector.get_boxes = lambda x, score_thresh, nms_thresh: [
        [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0)}] * x.shape[1] for _ in x
    ]
    found = check_state_leak(detector, loader.dataset.dataset, 0.5, CPU)
    assert (found.detections, found.changed, found.max_score_change, found.passed) == (0, None, None, None)


@pytest.mark.parametrize("fault", [{"forgets": False}, {"looks_aside": True}])
def test_a_leak_is_found(loader, fault):
    found = check_state_leak(Counting(**fault), loader.dataset.dataset, 0.5, CPU)
    assert not found.passed
    assert found.changed > 0.01
