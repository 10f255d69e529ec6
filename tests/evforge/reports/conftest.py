import pytest

from evforge.tracking.tracker import Tracker
from evforge.training.run_folder import write_record

SPACE = """space:
  anchors.anchor_list: {choice: [PSEE_ANCHORS, [[1, 1], [2.5, 1]]]}
  model.feature_base: {choice: [2, 4]}
  optim.lr: {loguniform: [1e-4, 1e-2]}
"""


@pytest.fixture
def study(tiny_config, tmp_path):
    """A study's folder and runs: eight trials, of which one failed; the width alone makes them good."""
    folder = tmp_path / "study-1"
    folder.mkdir()
    (folder / "space.yaml").write_text(SPACE)
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    parent = tracker.start_run("study-1", {}, {"trial_resources": {"cpu": 2.0}})
    write_record(folder, tiny_config, tracker, parent)
    for number in range(8):
        width = 2 + 2 * (number % 2)
        anchors = "PSEE_ANCHORS" if number % 3 else [[1, 1], [2.5, 1]]
        drawn = {"model.feature_base": width, "anchors.anchor_list": anchors, "optim.lr": 1e-4 * (number + 1)}
        run = tracker.start_run(f"trial-{number + 1}", {**tiny_config.to_flat(), **drawn}, {}, parent)
        if number == 7:
            tracker.set_tag(run, "failure", "NonFiniteLossError: the loss is <nan> & more")
            tracker.end_run(run, "FAILED")
            continue
        for epoch in (1, 2):
            figures = {"val_mean_ap": 0.1 * width + 0.01 * epoch, "parameters": 1e6 * width, "latency_ms": 5.0 * number}
            tracker.log_metrics(run, figures, epoch)
        tracker.end_run(run, "FINISHED")
    return folder, tracker, parent
