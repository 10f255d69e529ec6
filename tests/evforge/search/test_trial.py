from types import SimpleNamespace

import pytest

from evforge.search import trial
from evforge.search.trial import TrialSetup
from evforge.training.failures import NodeError
from evforge.training.run_folder import CheckpointError, failure_file


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """The setup of a trial "7" of a study, in a process that Ray seems to run on the node "ab"."""
    monkeypatch.setattr("ray.tune.get_context", lambda: SimpleNamespace(get_trial_id=lambda: "7"))
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "ab"))
    monkeypatch.setattr(trial, "trial_is_running", lambda: True)
    (tmp_path / "label_map_dictionary.json").touch()
    return TrialSetup(None, tmp_path, [str(tmp_path / "label_map_dictionary.json")], threads=1, use_gpu=False)


def run(setup, error=None):
    with trial._noting_failures(setup):
        if error is not None:
            raise error


def test_an_error_of_the_settings_is_noted_for_the_driver(setup, tmp_path):
    run(setup, ValueError("optim.lr: got -1"))
    assert "ValueError: optim.lr: got -1" in failure_file(tmp_path, "7").read_text()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError("full")])
def test_an_error_that_may_pass_is_raised_with_its_node(setup, tmp_path, error):
    with pytest.raises(NodeError, match=str(error.args[-1])) as caught:
        run(setup, error)
    assert caught.value.node_id == "ab" and not failure_file(tmp_path, "7").exists()


def test_a_node_that_does_not_see_the_dataset_is_at_fault(setup, tmp_path):
    (tmp_path / "label_map_dictionary.json").unlink()
    with pytest.raises(NodeError, match=r"FileNotFoundError: .*label_map_dictionary.json: not found on this node"):
        run(setup)


def test_a_full_disk_is_raised_as_it_is(setup):
    with pytest.raises(CheckpointError):
        run(setup, CheckpointError("full"))


def test_an_error_of_a_stopped_trial_is_nobody_s(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "trial_is_running", lambda: False)
    run(setup, OSError("the session has ended"))
    assert not failure_file(tmp_path, "7").exists()
