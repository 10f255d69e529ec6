import copy
import json

import pytest

from evforge.evaluation.compare import compare, find_evaluation, read_evaluation, write_evaluation
from evforge.training.run_folder import RECORD_FILE, write_text

PARTS = [{"start": None, "stop": 16, "ap": None}, {"start": 16, "stop": None, "ap": 0.5}]
FOUND = {
    "checkpoint": "a/best.ckpt",
    "split": "test",
    "data_fingerprint": "da7a",
    "classes": ["car"],
    "protocol": {"skip_us": 0, "score_thresh": 0.001},
    "metrics": {"mean_ap": 0.25},
    "details": {
        "operating_point": {"f1": 0.5},
        "calibration": {"error": 0.125},
        "reaction": {"found": 1.0, "median_ms": None},
        "slices": {"size": PARTS},
    },
}


def test_figures_side_by_side(tmp_path):
    better = copy.deepcopy(FOUND)
    better["metrics"]["mean_ap"] = 0.375
    lines = compare(better, FOUND, tmp_path).splitlines()
    assert lines[0] == "there: a/best.ckpt"
    assert [line.split() for line in lines if line.startswith("mean_ap")] == [
        ["mean_ap", "0.3750", "0.2500", "+0.1250"]
    ]
    assert [line for line in lines if line.startswith("AP, size")] == ["AP, size from 16   0.5000  0.5000     +0.0000"]
    assert not any(line.startswith("median reaction") for line in lines), "not known"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "val"}, "split is 'val' there and 'test' here"),
        ({"data_fingerprint": "0ther"}, "data_fingerprint is '0ther' there"),
        ({"classes": ["bus"]}, r"classes is \['bus'\] there"),
        ({"protocol": {"skip_us": 5, "score_thresh": 0.05}}, r"skip_us is 5 there and 0 here; protocol.score_thresh"),
        ({"protocol": {"skip_us": 0}}, "protocol.score_thresh is None there"),
    ],
)
def test_other_rules_or_data_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"x.json: cannot be compared, allowed: equal rules and data; .*{message}"):
        compare(FOUND, {**FOUND, **change}, tmp_path / "x.json")


def test_files_are_found_in_folders_of_evaluations_runs_and_studies(tmp_path):
    path = tmp_path / "best" / "evaluate-val" / "evaluation.json"
    path.parent.mkdir(parents=True)
    write_evaluation(path, FOUND)
    for place in (tmp_path, tmp_path / "best", path.parent, path):
        assert find_evaluation(place, "val") == path
    assert read_evaluation(path) == FOUND
    with pytest.raises(FileNotFoundError, match="no evaluation on test"):
        find_evaluation(tmp_path, "test")


def test_one_of_several_runs_is_named(tmp_path):
    write_text(tmp_path / "train-1" / RECORD_FILE, "{}")
    with pytest.raises(FileNotFoundError, match="is a folder of several runs, allowed: the folder of one of them"):
        find_evaluation(tmp_path, "test")
    write_text(tmp_path / RECORD_FILE, "{}")  # now it is a study, which contains the record of its best trial
    with pytest.raises(FileNotFoundError, match="no evaluation on test; `evforge evaluate"):
        find_evaluation(tmp_path, "test")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"metrics": {}})])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="x.json: not an evaluation"):
        read_evaluation(tmp_path / "x.json")
