from dataclasses import replace

import numpy as np
import pytest
import torch

from detector.config import Config
from detector.data.sequence_file import VideoInfo
from detector.evaluation.collector import FramePredictions, Protocol
from detector.events.types import BBOX_dtype

PROTOCOL = Protocol()
NOTHING = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}


def rows(*boxes):
    """(t, x, y, w, h, class_id) rows."""
    return np.array([(*box, 0, 1.0) for box in boxes], BBOX_dtype)


def video(labels, first_t=1000, delta_t=50):
    return VideoInfo("/data/a.h5", "a", first_t, delta_t, 10, 40, 60, 1.0, labels)


def detection(x1, y1, x2, y2, label=1, score=0.9):
    return {
        "boxes": torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32),
        "scores": torch.tensor([score]),
        "labels": torch.tensor([label]),
    }


def measure(labels, preds, labeled, protocol=PROTOCOL, start_frame=0):
    predictions = FramePredictions({7: "car", 3: "bus"}, [7, 3], protocol)
    predictions.add([[pred] for pred in preds], [(video(labels), start_frame)], torch.tensor(labeled)[:, None])
    return predictions.measure().metrics


def test_labels_1_to_k_become_ids_and_frames_become_end_times():
    labels = rows((1150, 5, 5, 10, 10, 3))  # the end of frame 2
    perfect = detection(5, 5, 15, 15, label=2)
    assert measure(labels, [NOTHING, NOTHING, perfect], [False, False, True])["ap/bus"] == pytest.approx(1.0)
    assert measure(labels, [perfect], [True], start_frame=2)["mean_ap"] == pytest.approx(1.0)
    assert measure(labels, [NOTHING, NOTHING, detection(5, 5, 15, 15, label=1)], [False, False, True])["mean_ap"] == 0


def test_only_the_last_labelled_time_of_a_frame_counts():
    labels = rows((1010, 30, 5, 10, 10, 7), (1040, 5, 5, 10, 10, 7))
    assert measure(labels, [detection(5, 5, 15, 15)], [True])["mean_ap"] == pytest.approx(1.0)


def test_an_unwanted_box_makes_an_earlier_one_of_its_frame_not_count():
    labels = rows((1010, 5, 5, 10, 10, 7), (1040, 5, 5, 10, 10, 9), (1100, 5, 5, 10, 10, 7))
    found = measure(labels, [NOTHING, detection(5, 5, 15, 15)], [True, True])
    assert found["mean_ap"] == pytest.approx(1.0), "frame 0 holds no car"
    false = measure(labels, [detection(5, 5, 15, 15, score=0.99), detection(5, 5, 15, 15)], [True, True])
    assert false["mean_ap"] == pytest.approx(0.5), "a detection there is a false one, and scores highest"


def test_unlabelled_frames_are_ignored():
    labels = rows((1150, 5, 5, 10, 10, 7))
    preds = [detection(20, 20, 30, 30, score=0.99), NOTHING, detection(5, 5, 15, 15)]
    assert measure(labels, preds, [False, False, True])["mean_ap"] == pytest.approx(1.0)


def test_the_protocol_filters_labels_and_detections():
    labels = rows((1050, 5, 5, 10, 10, 7), (1100, 5, 5, 30, 30, 7))
    preds = [detection(5, 5, 15, 15), detection(5, 5, 35, 35, score=0.5)]
    assert measure(labels, preds, [True, True], replace(PROTOCOL, min_box_diag=20))["mean_ap"] == pytest.approx(1.0)
    skipped = measure(labels, [NOTHING, preds[1]], [True, True], replace(PROTOCOL, skip_us=50))
    assert skipped["mean_ap"] == pytest.approx(1.0), "t - first_t <= skip_us does not count"
    assert measure(labels, [NOTHING, preds[1]], [True, True])["mean_ap"] < 0.6


def test_a_frame_whose_boxes_are_all_filtered_out_still_counts_its_false_detections():
    labels = rows((1050, 5, 5, 10, 10, 7), (1100, 5, 5, 30, 30, 7))
    preds = [detection(20, 10, 50, 40, score=0.99), detection(5, 5, 35, 35, score=0.5)]
    filters = replace(PROTOCOL, min_box_diag=20)
    assert measure(labels, preds, [True, True], filters)["mean_ap"] == pytest.approx(0.5)
    ignoring = replace(filters, empty_frames="ignore")
    assert measure(labels, preds, [True, True], ignoring)["mean_ap"] == pytest.approx(1.0)


def test_frames_that_were_not_detected_on_do_not_count():
    labels = rows((1050, 5, 5, 10, 10, 7), (1500, 5, 5, 10, 10, 7))
    assert measure(labels, [detection(5, 5, 15, 15)], [True])["mean_ap"] == pytest.approx(1.0)


def test_labels_outside_of_the_recording_are_counted():
    predictions = FramePredictions({7: "car", 3: "bus"}, [7, 3], PROTOCOL)
    labels = rows((1000, 5, 5, 10, 10, 7), (1050, 5, 5, 10, 10, 7), (1501, 5, 5, 10, 10, 7))
    predictions.add([[NOTHING]], [(video(labels), 0)], torch.ones(1, 1, dtype=torch.bool))
    assert predictions.measure().left_out == {"labels outside of the recording": 2}


def test_labels_of_a_recording_without_a_labelled_frame_are_counted_too():
    predictions = FramePredictions({7: "car", 3: "bus"}, [7, 3], PROTOCOL)
    good, bad = video(rows((1050, 5, 5, 10, 10, 7))), video(rows((9000, 5, 5, 10, 10, 7)))._replace(path="/data/b.h5")
    labeled = torch.tensor([[True, False, False]])
    predictions.add([[detection(5, 5, 15, 15), NOTHING, NOTHING]], [(good, 0), (bad, 0), (None, 0)], labeled)
    found = predictions.measure()
    assert (found.metrics["mean_ap"], found.left_out) == (pytest.approx(1), {"labels outside of the recording": 1})


def test_nothing_to_measure():
    labels = rows((1050, 5, 5, 10, 10, 7))
    for labeled, protocol in ((False, PROTOCOL), (True, replace(PROTOCOL, skip_us=50))):
        predictions = FramePredictions({7: "car", 3: "bus"}, [7, 3], protocol)
        predictions.add([[NOTHING]], [(video(labels), 0)], torch.tensor([[labeled]]))
        assert predictions.measure() is None


def test_the_protocol_of_a_configuration():
    settings = {"data.skip_us": 7, "data.min_box_diag": 3, "eval.empty_frames": "ignore", "eval.nms_thresh": 0.6}
    assert Protocol.of(Config().with_overrides(settings)) == Protocol(7, 3, 10, "ignore", 0.001, 0.6)
    assert Protocol() == Protocol(0, 0, 0, "count", 0.001, 0.5)


def test_boxes_of_a_recording_in_the_order_of_their_frames():
    labels = rows((990, 1, 1, 2, 2, 9), (1050, 5, 5, 10, 10, 7), (1200, 5, 5, 10, 10, 7), (1201, 5, 5, 10, 10, 3))
    predictions = FramePredictions({7: "car", 3: "bus"}, [7, 3], PROTOCOL)
    batch = [[detection(5, 7, 15, 30, label=2, score=0.25)], [NOTHING], [detection(1, 2, 4, 8)]]
    predictions.add(batch, [(video(labels), 2)], torch.tensor([[True], [True], [False]]))
    assert predictions.size == (40, 60)
    (found,) = predictions.recordings()
    assert (found.path, found.frames.num_frames) == ("/data/a.h5", 10) and found.all_labels is labels
    assert found.labels["t"].tolist() == [990, 1200], "labels of frames 2 and 3, and those outside"
    names = ("t", "x", "y", "w", "h", "class_id", "class_confidence")
    assert [tuple(row[name] for name in names) for row in found.detections] == [(1150, 5, 7, 10, 23, 3, 0.25)]


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_0_joins_the_boxes_of_all_ranks_and_sends_the_result(monkeypatch, rank):
    predictions = FramePredictions({7: "car", 3: "bus"}, [7, 3], PROTOCOL)
    labels = rows((1000, 5, 5, 10, 10, 7), (1050, 5, 5, 10, 10, 7))
    predictions.add([[detection(5, 5, 15, 15)]], [(video(labels), 0)], torch.ones(1, 1, dtype=torch.bool))
    sent = []

    def gather(parts, item):
        parts[:] = [item, [], item]

    def broadcast(result, src):
        sent.append((list(result), src))
        if rank != 0:
            result[0] = "of rank 0"

    fakes = {"is_initialized": lambda: True, "get_rank": lambda: rank, "get_world_size": lambda: 3}
    for name, fake in {**fakes, "all_gather_object": gather, "broadcast_object_list": broadcast}.items():
        monkeypatch.setattr(torch.distributed, name, fake)
    found = predictions.measure()
    assert [src for _, src in sent] == [0]
    if rank == 0:
        assert found.left_out == {"labels outside of the recording": 2} and sent[0][0] == [found]
        assert found.metrics["mean_ap"] == pytest.approx(1)
    else:
        assert found == "of rank 0" and sent[0][0] == [None]
