import pytest

from evlab.cli import main
from evlab.registry_table import describe, newest, overview
from evlab.tracking import Tracker


@pytest.fixture
def tracker(tracking_uri, tmp_path):
    """Two versions of a model `street`; the first is the champion."""
    tracker = Tracker(tracking_uri, "evlab")
    tracker.client.create_registered_model("street")
    for number, mean_ap in ((1, 0.25), (2, 0.125)):
        tags = {"mean_ap": str(mean_ap), "mean_ap50": "0.5", "export_checks": "passed"}
        tracker.client.create_model_version(
            "street", str(tmp_path), run_id=None, tags=tags, description=f"card {number}"
        )
    tracker.client.set_registered_model_alias("street", "champion", "1")
    tracker.client.set_registered_model_alias("street", "candidate", "2")
    return tracker


def test_overview(tracker):
    first, second = overview(tracker).splitlines()
    assert first.startswith("street 1  champion  mAP 0.250  mAP50 0.500  run ")
    assert second.startswith("street 2  candidate  mAP 0.125  mAP50 0.500  run ")


def test_describe(tracker):
    assert describe(tracker, "street") == "version 2, aliases: candidate\n\ncard 2"
    assert describe(tracker, "street", 1) == "version 1, aliases: champion\n\ncard 1"
    with pytest.raises(ValueError, match=r"version: got 7 of model 'street', allowed: 1, 2"):
        describe(tracker, "street", 7)


def test_newest(tracker):
    assert newest(tracker, "street") == 2
    with pytest.raises(ValueError, match=r"name: got 'road', allowed: a registered model"):
        newest(tracker, "road")


def test_no_models(tracking_uri):
    assert overview(Tracker(tracking_uri, "evlab")).startswith("no registered model in sqlite://")


def test_verb(tracker, tracking_uri, capsys):
    flags = ["--track.tracking_uri", tracking_uri, "--name", "street"]
    assert main(["registry", "list", *flags]) == 0
    assert "street 1  champion" in capsys.readouterr().out
    assert main(["registry", "show", *flags, "--version", "1"]) == 0
    assert "card 1" in capsys.readouterr().out
    assert main(["registry", "promote", *flags, "--version", "1"]) == 0
    assert "street version 1: not promoted, version 1 is the champion already" in capsys.readouterr().out
    assert main(["registry", "promote", *flags, "--version", "9"]) == 2
