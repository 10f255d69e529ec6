import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.events.frames import Frames
from detector.inference.frames_file import frames_path, read_frames, write_frames
from detector.inference.predictor import Frame
from detector.inference.recording import predict
from detector.labels import load_labels

FRAMES = Frames(2**33, 50_000, 3)


def test_frames_are_kept_beside_the_boxes(tmp_path):
    path = tmp_path / "boxes.npy"
    path.touch()
    assert read_frames(path) is None, "a file of another tool"
    write_frames(path, FRAMES)
    assert json.loads((tmp_path / "boxes.npy.frames.json").read_text()) == FRAMES._asdict()
    assert read_frames(path) == read_frames(frames_path(path)) == FRAMES


def test_coco_files_hold_their_frames_themselves(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"info": FRAMES._asdict(), "images": []}))
    assert read_frames(path) == FRAMES
    for content in ({"images": []}, {"info": {"year": 2026}}, {"info": None}, [{"image_id": 1, "score": 0.5}], 7):
        path.write_text(json.dumps(content))
        assert read_frames(path) is None


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"first_t": 0, "delta_t": 0, "num_frames": 3}'])
def test_what_is_not_a_description_of_frames(tmp_path, text):
    path = tmp_path / "boxes.csv"
    path.touch()
    frames_path(path).write_text(text)
    with pytest.raises(ValueError, match=r"boxes.csv.frames.json: not the frames of a file of boxes"):
        read_frames(path)
    with pytest.raises(FileNotFoundError, match="other.csv: no such file of boxes"):
        read_frames(tmp_path / "other.csv")


class Perfect:
    """A predictor that answers each frame with what was labelled last in it."""

    classes, height, width = {0: "walker", 1: "car"}, 240, 304

    def __init__(self, labels, delta_t):
        self.labels, self.delta_t = labels, delta_t

    def sensor_size(self, events):
        return events.height, events.width

    def frames(self, streams, histograms=False):
        (events,) = streams
        for start in range(events.first_t // self.delta_t * self.delta_t, events.last_t + 1, self.delta_t):
            end = start + self.delta_t
            inside = self.labels[(self.labels["t"] > start) & (self.labels["t"] <= end)]
            answer = inside[inside["t"] == inside["t"].max(initial=0)].copy()
            answer["t"] = end
            yield [Frame(end, answer, np.zeros((2, 240, 304), np.uint8))]


def read_csv(path):
    with path.open() as file:
        lines = list(csv.DictReader(file))
    rows = np.zeros(len(lines), BBOX_dtype)
    for name in ("t", "x", "y", "w", "h", "class_id", "class_confidence"):
        rows[name] = [float(line[name]) for line in lines]
    return rows


def read_coco(path):
    content = json.loads(path.read_text())
    ends = {image["id"]: image["t"] for image in content["images"]}
    table = content["annotations"]
    rows = np.zeros(len(table), BBOX_dtype)
    rows["t"] = [ends[box["image_id"]] for box in table]
    for index, name in enumerate("xywh"):
        rows[name] = [box["bbox"][index] for box in table]
    rows["class_id"] = [box["category_id"] for box in table]
    rows["class_confidence"] = [box["score"] for box in table]
    return rows


@settings(max_examples=30, deadline=None)
@given(
    period=st.integers(1_000, 200_000),
    phase=st.integers(0, 200_000),
    delta_t=st.integers(10_000, 200_000),
    first_t=st.integers(0, 2**32 - 4_000_000),
    on_border=st.booleans(),
)
def test_a_perfect_detector_scores_one_through_every_file(tmp_path_factory, period, phase, delta_t, first_t, on_border):
    folder = tmp_path_factory.mktemp("boxes")
    events = np.zeros(2, EventCD)
    events["t"] = first_t, first_t + 10 * delta_t
    write_dat(folder / "a_td.dat", events, 240, 304)
    start = first_t // delta_t * delta_t
    times = np.arange(start + (delta_t if on_border else 1 + phase % period), first_t + 10 * delta_t, period)[:300]
    labels = np.zeros(len(times), BBOX_dtype)
    labels["t"], labels["w"], labels["h"], labels["class_confidence"] = times, 40, 30, 1
    labels["x"], labels["class_id"] = np.arange(len(times)) * 7 % 250, np.arange(len(times)) % 2
    names = [folder / f"boxes{kind}" for kind in (".npy", ".csv", ".json")]
    predict(folder / "a_td.dat", Perfect(labels, delta_t), names, progress=False)
    if not len(labels):
        return
    for path, read in zip(names, (load_labels, read_csv, read_coco), strict=True):
        evaluator = CocoEvaluator(Perfect.classes, 240, 304)
        evaluator.partial_eval([labels], [read(path)], [read_frames(path)])
        assert evaluator.accumulate()["mean_ap"] == pytest.approx(1), path.suffix
