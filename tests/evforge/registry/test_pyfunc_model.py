import json

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from registered_model import NAME, register_version

from detector.events import EventCD, open_events, write_dat
from detector.inference.predictor import Predictor


@pytest.fixture
def model(export, tracker, monkeypatch):
    """The registered model, as MLflow loads it."""
    monkeypatch.setattr("detector.export.check._run_cases", lambda file: None)
    register_version(tracker, export)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    return mlflow.pyfunc.load_model(f"models:/{NAME}@candidate")


def test_frames_give_what_the_export_detects(model, export):
    frames = torch.rand(2, 3, 2, 64, 96, generator=torch.Generator().manual_seed(1))
    table = model.predict({"frames": frames.numpy()})

    scripted = torch.jit.load(str(export / "model.ptjit"))
    with torch.no_grad():
        boxes = scripted.detect(frames, 0.0, 0.5, 500)
    expected = [[b, t, *row.tolist()] for t in range(2) for b in range(3) for row in boxes[t][b]]
    assert len(table) == len(expected) > 0
    np.testing.assert_array_equal(
        table[["stream", "x", "y", "w", "h", "score"]], np.array(expected)[:, [0, *range(2, 7)]]
    )
    assert table["t"].tolist() == [(t + 1) * 50_000 for _, t, *_ in expected]
    assert set(table["class_id"]) == {3} and set(table["class"]) == {"car"} and set(table["clip"]) == {0}
    # Calls do not depend on each other, and lists are taken as well.
    pd.testing.assert_frame_equal(table, model.predict({"frames": frames.tolist()}))


def test_recordings_give_what_the_predictor_detects(model, export, tmp_path):
    rng = np.random.default_rng(0)
    events = np.zeros(2000, EventCD)
    events["t"], events["p"] = np.sort(rng.integers(0, 120_000, 2000)), rng.integers(0, 2, 2000)
    events["x"], events["y"] = rng.integers(0, 160, 2000), rng.integers(0, 120, 2000)
    path = tmp_path / "a_td.dat"
    write_dat(path, events, 120, 160)
    table = model.predict(pd.DataFrame({"recording": [str(path), str(path)]}))
    with open_events(path) as reader:
        boxes = np.concatenate(list(Predictor(export)(reader)))
    assert table["clip"].value_counts().to_dict() == {0: len(boxes), 1: len(boxes)}
    assert len(boxes) > 0 and set(table["t"]) == {50_000, 100_000, 150_000}
    for name in ("t", "x", "y", "w", "h", "class_id"):
        np.testing.assert_array_equal(table[name], np.tile(boxes[name], 2))


def test_what_is_neither_frames_nor_a_recording(model):
    with pytest.raises(ValueError, match=r"frames: got shape \(2, 1, 3, 64, 64\), allowed: \(T, B, 2, H, W\)"):
        model.predict({"frames": np.zeros((2, 1, 3, 64, 64), np.float32)})
    with pytest.raises(ValueError, match="row 0 of the input: got none of them, allowed: either frames or recording"):
        model.predict(pd.DataFrame({"recording": [None]}))
    with pytest.raises(mlflow.MlflowException, match="Expected data to be list"):
        model.predict({"frames": 3.0})


def test_the_input_example_fits(model):
    assert model.input_example["frames"].shape == (1, 1, 2, 32, 32)
    assert list(model.predict(model.input_example).columns) == [spec.name for spec in model.metadata.signature.outputs]
    assert json.loads(model.metadata.get_serving_input(model.model_config and "" or _path(model)))["inputs"]["frames"]


def _path(model):
    return mlflow.artifacts.download_artifacts(f"models:/{model.metadata.model_id}")
