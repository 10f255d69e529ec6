import pytest

from evforge.cli import submit as jobs
from evforge.cli.settings import Settings
from evforge.cli.verbs import cluster
from evforge.cluster.diagnosis import doctor as diagnosis


@pytest.fixture
def calls(monkeypatch):
    """What the functions behind the verbs were called with; each returns 7."""
    found = []
    for owner, name in ((jobs, "submit"), (jobs, "manage"), (diagnosis, "doctor")):
        monkeypatch.setattr(owner, name, lambda *arguments, name=name: found.append((name, *arguments)) or 7)
    return found


def test_a_command_is_parsed_and_submitted(calls):
    words = ["train", "--model.feature_base", "24"]
    assert cluster.submit(words, address="http://a", env=["KEY"]) == 7
    values = {"settings": Settings(None, {"model.feature_base": "24"}), "resume": None}
    assert calls == [("submit", words, values, "http://a", ["KEY"])]


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ({"status": "j1"}, ("manage", "--status", "j1", None)),
        ({"logs": "j2", "address": "http://a"}, ("manage", "--logs", "j2", "http://a")),
        ({"stop": "j3"}, ("manage", "--stop", "j3", None)),
        ({"list": True}, ("manage", "--list", "", None)),
    ],
)
def test_a_job_is_managed_by_its_id(calls, arguments, call):
    assert cluster.submit([], **arguments) == 7
    assert calls == [call]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ([], {}, "^submit: got nothing, allowed: one of --status, --logs, --stop, --list, -- VERB ...$"),
        (["train"], {"list": True}, "^submit: got --list and -- VERB ..., allowed: one of"),
        ([], {"stop": "a", "logs": "b"}, "^submit: got --logs and --stop, allowed"),
        ([], {"stop": "a", "env": ["KEY"]}, "^submit: got --env with --stop, allowed: --env with -- VERB ...$"),
        (["evaluate", "x"], {}, "^submit: got 'evaluate', allowed: build, train, tune$"),
        (["train", "--sed", "3"], {}, "^unknown argument --sed"),
    ],
)
def test_one_thing_is_done_at_a_time(calls, command, arguments, message):
    with pytest.raises(ValueError, match=message):
        cluster.submit(command, **arguments)
    assert calls == []


def test_settings_are_checked_only_if_some_are_given(calls, tmp_path):
    (tmp_path / "a.yaml").write_text("train: {seed: 5}")
    assert cluster.doctor(Settings(), address="http://a") == 7
    cluster.doctor(Settings(None, {"train.seed": "3"}))
    cluster.doctor(Settings(str(tmp_path / "a.yaml")))
    assert [(config and config.train.seed, address) for _, config, address in calls] == [
        (None, "http://a"),
        (3, None),
        (5, None),
    ]
