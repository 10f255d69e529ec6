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


@pytest.mark.parametrize("fault", [{"forgets": False}, {"looks_aside": True}])
def test_a_leak_is_found(loader, fault):
    found = check_state_leak(Counting(**fault), loader.dataset.dataset, 0.5, CPU)
    assert not found.passed
    assert found.changed > 0.01
