import json
import re
import shlex
from html import unescape
from types import SimpleNamespace

import pytest
from study_trials import study_of, trial

from detector.config import Config
from evforge.reports.winner import commands_section, evaluation_section, registry_section, settings_section

WINNER = trial("trial-3", [0.5], values={"model.feature_base": 4}, config=Config(), run_id="f00d")
EVALUATION = {
    "metrics": {"mean_ap": 0.25, "ap/<car>": 0.5, "mean_ap_big": None},
    "protocol": {"skip_us": 0, "min_box_diag": 5, "min_box_side": 3, "empty_frames": "count", "score_thresh": 0.05},
    "details": {
        "operating_point": {"f1": 0.5, "score": 0.3, "precision": 0.4, "recall": 0.6},
        "intervals": {"bounds": {"ap/<car>": [0.4, 0.625]}, "blocks": 20, "recordings": 1},
        "slices": {
            "size": [
                {"start": None, "stop": 16, "boxes": 10, "ap": 0.2, "ap50": 0.4, "recall": 0.8},
                {"start": 16, "stop": 32, "boxes": 0, "ap": None, "ap50": None, "recall": None},
            ]
        },
    },
}


class Client:
    """The files of a run, and the versions of a registry."""

    def __init__(self, folder=None, versions=()):
        self.folder, self.versions = folder, versions

    def list_artifacts(self, run_id, path):
        assert (run_id, path) == ("f00d", "test")
        files = self.folder.iterdir()
        return [SimpleNamespace(path=f"test/{file.name}", file_size=file.stat().st_size) for file in files]

    def download_artifacts(self, run_id, path, target):
        return str(self.folder / path.removeprefix("test/"))

    def search_model_versions(self, text):
        assert text == "run_id = 'f00d'"
        return self.versions

    def get_model_version(self, name, version):
        return SimpleNamespace(aliases=["champion"] if version == "2" else [])


def study_with(client=None, uri="sqlite:///a.db", **changes):
    study = study_of(WINNER, **changes)
    object.__setattr__(study, "tracker", SimpleNamespace(client=client, uri=uri))
    return study


def rows_of(text):
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    return [[unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<t[dh].*?</t[dh]>", row)] for row in rows]


def commands_of(text):
    return [shlex.split(unescape(code)) for code in re.findall(r"<code>(.*?)</code>", text)]


def test_settings_are_those_of_the_model():
    text = settings_section(study_with(), WINNER)
    rows = rows_of(text)
    assert rows[:2] == [
        ["searched setting", "winner", "without the search"],
        ["model.feature_base", "4", str(Config().model.feature_base)],
    ]
    keys = {row[0] for row in rows}
    assert {"optim.lr", "anchors.anchor_list"} <= keys
    assert not keys & {"data.dataset_path", "train.storage", "track.tracking_uri"}


def test_an_evaluation_with_intervals_and_images(tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    for name in ("slices.png", "own.png", "confusion.png", "detections.png"):
        (tmp_path / name).write_bytes(b"\x89PNG" + name.encode())
    (tmp_path / "video.gif").write_bytes(b"GIF")
    (tmp_path / "huge.png").write_bytes(bytes(3 * 2**20 + 1))
    text = evaluation_section(study_with(Client(tmp_path)), WINNER)
    rows = rows_of(text)
    assert ["ap/<car>", "0.5000", "0.400 to 0.625"] in rows and ["mean_ap_big", "-", "-"] in rows
    found = [row for row in rows if row[0].startswith("box size")]
    # Wilson, 8 of 10
    assert found == [[found[0][0], "below 16 px", "10", "0.200", "0.400", "0.800", "0.490 to 0.943"]]
    assert "best F1 0.500 at score 0.300: precision 0.400, recall 0.600; " in text
    assert re.findall(r"<figcaption>(.*?)<", text) == ["detections", "confusion", "slices", "own"]


def test_an_evaluation_of_an_older_version_has_no_intervals(tmp_path):
    details = {key: value for key, value in EVALUATION["details"].items() if key != "intervals"}
    (tmp_path / "evaluation.json").write_text(json.dumps({**EVALUATION, "details": details}))
    assert ["ap/<car>", "0.5000", "-"] in rows_of(evaluation_section(study_with(Client(tmp_path)), WINNER))


def test_without_an_evaluation(tmp_path):
    assert "was not evaluated on the test split" in evaluation_section(study_with(Client(tmp_path)), WINNER)


@pytest.mark.parametrize("uri", ["sqlite:///a.db", "http://server:5000/"])
def test_registered_versions(uri):
    versions = [SimpleNamespace(name="a <b>", version=2), SimpleNamespace(name="c", version=1)]
    text = registry_section(study_with(Client(versions=versions), uri), WINNER)
    assert "a &lt;b&gt;, version 2, champion<" in text and ">c, version 1<" in text
    assert commands_of(text)[0] == ["evforge", "registry", "show", "--name", "a <b>", "--version", "2"]
    links = re.findall(r'href="(.*?)"', text)
    assert links == ([] if "sqlite" in uri else [f"http://server:5000/#/models/{n}" for n in LINKS])
    assert "is not registered" in registry_section(study_with(Client()), WINNER)


LINKS = ("a%20%3Cb%3E/versions/2", "c/versions/1")


def test_commands_are_quoted():
    study = study_with(best_run="f00d")
    folder = study.folder.parent / "my $studies; x"
    object.__setattr__(study, "folder", folder)
    assert commands_of(commands_section(study)) == [
        ["evforge", "evaluate", str(folder)],
        ["evforge", "export", str(folder), str(folder / "exported")],
        ["evforge", "registry", "register", "--checkpoint", str(folder)],
        ["evforge", "predict", "recording.raw", "--model", str(folder), "--output", "boxes.npy", "video.gif"],
        ["evforge", "train", "--config", str(folder / "best.yaml")],
    ]
    study = study_with()
    assert commands_of(commands_section(study)) == [["evforge", "tune", "--resume", str(study.folder)]]
