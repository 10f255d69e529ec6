import json
import threading
from pathlib import Path

import pytest
from registered_model import NAME, PROTOCOL, bare_version, copy_export, register_version

from evforge.registry import promotion
from evforge.registry.promotion import PromotionResult, history, promote, rollback


@pytest.fixture
def no_files(monkeypatch):
    """Leaves the check of the registered files out where a test is about something else."""
    monkeypatch.setattr(promotion, "_check_files", lambda tracker, version: None)


def _champion(tracker) -> int:
    return int(tracker.client.get_model_version_by_alias(NAME, "champion").version)


def _folder(tracker, version) -> Path:
    return Path(tracker.client.get_model_version(NAME, str(version)).source.removeprefix("file://"))


def test_champion_moves_only_to_a_better_version(tracker, no_files):
    first = bare_version(tracker, NAME, mean_ap="0.5")
    assert promote(tracker, NAME, first) == PromotionResult(True, "it is the first champion", 1)
    assert promote(tracker, NAME, 1) == PromotionResult(False, "version 1 is the champion already", 1)
    same = promote(tracker, NAME, bare_version(tracker, NAME, mean_ap="0.5"))
    assert same == PromotionResult(False, "mAP 0.5000 is not above the 0.5000 of champion 1", 1)
    assert _champion(tracker) == 1
    better = promote(tracker, NAME, str(bare_version(tracker, NAME, mean_ap="0.625")))
    assert better == PromotionResult(True, "mAP 0.6250 is above the 0.5000 of version 1", 3)
    assert _champion(tracker) == 3


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (
            {"protocol": json.dumps({**PROTOCOL, "min_box_diag": 60.0})},
            "it cannot be compared with champion 1: protocol.min_box_diag is 30.0 there and 60.0 here",
        ),
        (
            {"data_fingerprint": "0ther"},
            "it cannot be compared with champion 1: data_fingerprint is 'da7a' there and '0ther' here",
        ),
        (
            {"classes": '["bus"]'},
            "it cannot be compared with champion 1: classes is '[]' there and '[\"bus\"]' here",
        ),
        ({"mean_ap": "nan"}, "mAP nan is not above the 0.5000 of champion 1"),
        ({"export_checks": ""}, "version 2 was registered without the export checks"),
    ],
)
def test_better_numbers_that_do_not_count(tracker, no_files, tags, reason):
    protocol = json.dumps(PROTOCOL)
    promote(tracker, NAME, bare_version(tracker, NAME, mean_ap="0.5", protocol=protocol))
    other = bare_version(tracker, NAME, **{"mean_ap": "0.75", "protocol": protocol, **tags})
    assert promote(tracker, NAME, other) == PromotionResult(False, reason, 1)
    assert _champion(tracker) == 1


def test_a_champion_set_by_hand_that_cannot_be_compared_with(tracker, no_files):
    tracker.client.create_registered_model(NAME)
    tracker.client.create_model_version(NAME, "file:///nowhere")
    tracker.client.set_registered_model_alias(NAME, "champion", "1")
    found = promote(tracker, NAME, bare_version(tracker, NAME, mean_ap="0.5"))
    missing = "protocol, classes, data_fingerprint, mean_ap"
    assert found == PromotionResult(False, f"it cannot be compared with champion 1: a tag is missing: {missing}", 1)
    assert rollback(tracker, NAME).reason.startswith("version 1 did not become champion by a promotion")


def test_unknown_model_or_version(tracker):
    with pytest.raises(ValueError, match=f"name: got {NAME!r}"):
        promote(tracker, NAME, 7)
    with pytest.raises(ValueError, match=f"name: got {NAME!r}"):
        rollback(tracker, NAME)
    tracker.client.create_registered_model(NAME)
    with pytest.raises(ValueError, match=f"version: got 7 of model {NAME!r}"):
        promote(tracker, NAME, 7)


def test_files_are_checked_again(export, tracker, tmp_path):
    """Damage that came after the registration: the champion does not move, and the reason is stated."""
    assert promote(tracker, NAME, register_version(tracker, export, 0.25)).moved
    cases = {
        "artifacts/model.ptjit: is not the file that was registered": lambda folder: _truncate(folder, "model.ptjit"),
        "info_ssd_jit.json: no such file": lambda folder: (folder / "artifacts" / "info_ssd_jit.json").unlink(),
        "cannot be read": lambda folder: folder.rename(tmp_path / "away"),
    }
    for reason, damage in cases.items():
        version = register_version(tracker, export, 0.5)
        damage(_folder(tracker, version))
        found = promote(tracker, NAME, version)
        assert (found.moved, found.champion) == (False, 1)
        assert found.reason.startswith(f"the registered files of version {version} fail their checks: ")
        assert reason in found.reason
        assert str(_folder(tracker, version)) in found.reason
    assert _champion(tracker) == 1


def test_files_that_fail_a_case_are_refused_regardless_of_the_tags(export, tracker, tmp_path, monkeypatch):
    broken = copy_export(export, tmp_path / "broken", model=(export / "model.ptjit").read_bytes()[:5000])
    with monkeypatch.context() as patch:
        patch.setattr("detector.export.check._run_cases", lambda model: None)
        version = register_version(tracker, broken)
    found = promote(tracker, NAME, version)
    assert not found.moved
    assert "model.ptjit: the check 'forward with and without box decoding, CPU' failed" in found.reason
    assert tracker.client.get_registered_model(NAME).aliases == {"candidate": 1}


def test_rollback_goes_back_and_further_back(tracker, no_files):
    for mean_ap in ("0.25", "0.5", "0.75"):
        promote(tracker, NAME, bare_version(tracker, NAME, mean_ap=mean_ap))
    assert rollback(tracker, NAME) == PromotionResult(True, "version 2 was champion before version 3", 2)
    assert _champion(tracker) == 2
    again = promote(tracker, NAME, 3)
    assert not again.moved and again.reason.startswith("version 3 was champion and was rolled back at 20")
    assert promote(tracker, NAME, bare_version(tracker, NAME, mean_ap="0.625")).champion == 4
    assert rollback(tracker, NAME).champion == 2
    assert rollback(tracker, NAME).champion == 1
    assert rollback(tracker, NAME) == PromotionResult(
        False, "version 1 was the first champion, there is no previous one", 1
    )
    moves = [(move.how, move.before, move.version) for move in history(tracker, NAME)]
    assert moves == [
        ("promoted", None, 1),
        ("promoted", 1, 2),
        ("promoted", 2, 3),
        ("rolled back", 3, 2),
        ("promoted", 2, 4),
        ("rolled back", 4, 2),
        ("rolled back", 2, 1),
    ]


def test_rollback_to_a_deleted_version(tracker, no_files):
    for mean_ap in ("0.25", "0.5"):
        promote(tracker, NAME, bare_version(tracker, NAME, mean_ap=mean_ap))
    tracker.client.delete_model_version(NAME, "1")
    assert rollback(tracker, NAME).reason == "version 1, champion before version 2, no longer exists"
    assert _champion(tracker) == 2


def test_rollback_to_files_that_are_gone(tracker):
    for mean_ap in ("0.25", "0.5"):
        bare_version(tracker, NAME, mean_ap=mean_ap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "_check_files", lambda tracker, version: None)
        assert promote(tracker, NAME, 1).moved and promote(tracker, NAME, 2).moved
    found = rollback(tracker, NAME)
    assert not found.moved and "the registered files of version 1 fail their checks" in found.reason
    assert _champion(tracker) == 2


def test_no_champion_to_roll_back(tracker):
    tracker.client.create_registered_model(NAME)
    assert rollback(tracker, NAME) == PromotionResult(False, "street has no champion", None)


def test_of_promotions_at_once_one_wins(tracker, no_files):
    for number in range(5):
        name, start, found = f"model-{number}", threading.Barrier(3), {}
        versions = [bare_version(tracker, name, mean_ap="0.5") for _ in range(3)]

        def attempt(version, name=name, start=start, found=found):
            start.wait()
            found[version] = promote(tracker, name, version)

        threads = [threading.Thread(target=attempt, args=(version,)) for version in versions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = (version for version in versions if found[version].moved)
        assert tracker.client.get_registered_model(name).aliases == {"champion": winner}
        assert [move.version for move in history(tracker, name)] == [winner]


def test_a_promotion_judged_by_the_champion_before_loses(tracker, no_files, monkeypatch):
    """Another process is done between the judgement and the move."""
    for mean_ap in ("0.25", "0.5", "0.75"):
        bare_version(tracker, NAME, mean_ap=mean_ap)
    promote(tracker, NAME, 1)
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "_check_files", lambda tracker, version: _other_promotes(patch, tracker))
        found = promote(tracker, NAME, 2)
    assert not found.moved and found.reason.startswith("another process moved the champion in the meantime")
    assert _champion(tracker) == 3


def _other_promotes(patch, tracker):
    patch.setattr(promotion, "_check_files", lambda tracker, version: None)
    assert promote(tracker, NAME, 3).moved


def _truncate(folder: Path, name: str) -> None:
    file = folder / "artifacts" / name
    file.write_bytes(file.read_bytes()[:-1])
