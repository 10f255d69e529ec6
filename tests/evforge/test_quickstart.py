import json

import pytest
import yaml

from detector.config import Config
from evforge.quickstart import quickstart, recipe, space_file
from evforge.space.space import load_space
from evforge.tracking.tracker import Tracker

SMALL = {"train": 2, "val": 1, "test": 1}
CHANGES = {
    "data.num_tbins": 5,
    "data.batch_size": 2,
    "model.feature_base": 10,
    "model.feature_channels_out": 8,
    "model.num_levels": 2,
    "train.max_epochs": 1,
    "track.registered_model_name": "small",
}


def test_recipe_and_space_fit_each_other():
    space = load_space(space_file())
    config = recipe().with_overrides(space.settings)
    space.check(config)
    assert config.tune.num_samples >= 4
    assert {"anchors.anchor_list", "anchors.fg_iou_threshold", "model.feature_base"} <= space.domains.keys()


@pytest.mark.usefixtures("ray_head")
def test_the_whole_chain(tmp_path, tracking_uri, capfd):
    space = tmp_path / "space.yaml"
    space.write_text(
        "tune: {num_samples: 2, grace_epochs: 1, final_seeds: 1}\n"
        "space: {anchors.anchor_list: {choice: [PSEE_ANCHORS, COCO_ANCHORS]}}\n"
    )
    config = recipe().with_overrides({**CHANGES, "track.tracking_uri": tracking_uri})
    folder = tmp_path / "quickstart"
    assert quickstart(config, folder, recordings=SMALL, duration_s=1.5, space=space) == folder

    output = capfd.readouterr().out
    last = output[output.index("6/6 results") :]
    assert "trial-1" in last and "trial-2" in last
    assert "test mAP50 0." in last and "  mAP 0." in last
    assert "runs, metrics and models in a browser: evforge ui --track.tracking_uri sqlite:" in last
    for name in ("exported/model.ptjit", "evaluate-test/detections.png"):
        assert (folder / name).is_file()
        assert str(folder / name) in last

    info = json.loads((folder / "exported/info_ssd_jit.json").read_text())
    assert (info["classes"], info["height"], info["width"]) == (["pedestrian", "car"], 120, 160)
    (best,) = folder.glob("study-*/best.yaml")
    assert yaml.safe_load(best.read_text())["model"]["feature_base"] == 10
    assert Config.load(best).data.dataset_path == str(folder / "dataset")

    tracker = Tracker(tracking_uri, config.track.experiment)
    version = tracker.client.get_model_version_by_alias("small", "champion")
    run = tracker.run_info(version.run_id)
    assert run.name in ("trial-1", "trial-2")
    assert f"test mAP50 {run.metrics['test_mean_ap50']:.3f}  mAP {run.metrics['test_mean_ap']:.3f}" in last
    artifacts = {file.path for file in tracker.client.list_artifacts(version.run_id, "test")}
    assert {"test/pr_curve.png", "test/detections.png", "test/metrics.txt"} <= artifacts
