import pytest
from registered_model import bare_version

from evforge.cli.main import main
from evforge.registry import promotion
from evforge.registry.listing import describe, facts, newest, overview, verdict, verdict_facts
from evforge.registry.promotion import PromotionResult
from evforge.tracking.tracker import Tracker


@pytest.fixture
def tracker(tracker):
    """Two versions of a model `street`; the second is the candidate."""
    for number, mean_ap in ((1, "0.25"), (2, "0.125")):
        bare_version(tracker, "street", mean_ap=mean_ap)
        tracker.client.update_model_version("street", str(number), description=f"card {number}")
    tracker.client.set_registered_model_alias("street", "candidate", "2")
    return tracker


def test_overview(tracker):
    first, second = overview(tracker).splitlines()
    assert first.startswith("street 1  -  mAP 0.250  mAP50 0.500  run ")
    assert second.startswith("street 2  candidate  mAP 0.125  mAP50 0.500  run ")


def test_describe(tracker):
    assert describe(tracker, "street") == "version 2, aliases: candidate\n\ncard 2\n\nchampions:\nnone yet"
    assert describe(tracker, "street", 1).startswith("version 1, aliases: none\n\ncard 1\n\n")
    with pytest.raises(ValueError, match=r"version: got 7 of model 'street', allowed: 1, 2"):
        describe(tracker, "street", 7)


def test_facts_are_those_of_all_models_or_of_one_version(tracker):
    bare_version(tracker, "road", mean_ap="0.75")
    tracker.client.delete_model_version_tag("road", "1", "mean_ap50")
    models = {model["name"]: model for model in facts(tracker)["models"]}
    assert models.keys() == {"street", "road"} and models["road"]["champions"] == []
    (road,) = models["road"]["versions"]
    assert (road["version"], road["aliases"], road["mean_ap"], road["mean_ap50"]) == (1, [], 0.75, None)
    (street,) = facts(tracker, "street", 2)["models"]
    assert [(one["version"], one["aliases"], one["mean_ap50"]) for one in street["versions"]] == [
        (2, ["candidate"], 0.5)
    ]
    assert [one["version"] for one in facts(tracker, "street")["models"][0]["versions"]] == [1, 2]
    with pytest.raises(ValueError, match="version: got 3 of model 'street'"):
        facts(tracker, "street", 3)


def test_the_verdict_on_a_promotion():
    refused, moved = PromotionResult(False, "because", None), PromotionResult(True, "better", 2)
    assert verdict("street", refused) == "street: refused, champion stays none: because"
    assert verdict("street", moved) == "street: now champion is version 2: better"
    assert verdict_facts("street", moved) == {"name": "street", "moved": True, "champion": 2, "reason": "better"}


def test_versions_are_in_the_order_of_their_numbers(tracker):
    for _ in range(8):
        bare_version(tracker, "street", mean_ap="0.5")
    assert [line.split()[1] for line in overview(tracker).splitlines()] == [str(n) for n in range(1, 11)]
    assert newest(tracker, "street") == 10


def test_newest(tracker):
    assert newest(tracker, "street") == 2
    with pytest.raises(ValueError, match=r"name: got 'road', allowed: a registered model"):
        newest(tracker, "road")


def test_no_models(tracking_uri):
    assert overview(Tracker(tracking_uri, "evforge")).startswith("no registered model in sqlite://")


def test_verb(tracker, tracking_uri, capsys, monkeypatch):
    monkeypatch.setattr(promotion, "_check_files", lambda tracker, version: None)

    following, store = [], f"--track.tracking_uri={tracking_uri}"

    def run(action, *more):
        code = main(["registry", action, "--track.tracking_uri", tracking_uri, "--name", "street", *more])
        said = capsys.readouterr()
        lines = (said.out + said.err).splitlines(keepends=True)
        following.extend(line.removeprefix("next: evforge ").rstrip() for line in lines if line.startswith("next: "))
        return code, "".join(line for line in lines if not line.startswith("next: "))

    code, text = run("list")
    assert code == 0 and "street 2  candidate" in text
    assert following == [f"registry show --name street {store}"]
    run("show", "--version", "2")
    assert following[-1] == f"registry promote --name street --version 2 {store}"
    code, text = run("promote", "--version", "1")
    assert (code, text) == (0, "street: now champion is version 1: it is the first champion\n")
    code, text = run("promote")
    assert (code, text) == (
        1,
        "street: refused, champion stays version 1: mAP 0.1250 is not above the 0.2500 of champion 1\n",
    )
    bare_version(tracker, "street", mean_ap="0.5")
    assert run("promote")[1] == "street: now champion is version 3: mAP 0.5000 is above the 0.2500 of version 1\n"
    code, text = run("rollback")
    assert (code, text) == (0, "street: now champion is version 1: version 1 was champion before version 3\n")
    code, text = run("show", "--version", "1")
    assert code == 0 and "card 1" in text
    assert following[-1] == f"predict RECORDING --model models:/street@champion --output boxes.csv {store}"
    lines = text.splitlines()
    assert [line.partition("  ")[2] for line in lines[lines.index("champions:") + 1 :]] == [
        "promoted: none -> 1, it is the first champion",
        "promoted: 1 -> 3, mAP 0.5000 is above the 0.2500 of version 1",
        "rolled back: 3 -> 1, version 1 was champion before version 3",
    ]
    assert run("promote", "--version", "9")[0] == 2
    assert run("rollback", "--version", "1") == (
        2,
        "evforge: error: --version: got 1, allowed with rollback: none\n",
    )
