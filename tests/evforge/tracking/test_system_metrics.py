import pytest
from waiting import wait_for

from evforge.tracking.system_metrics import SWITCH, system_metrics, system_metrics_wanted


@pytest.mark.parametrize(
    ("value", "wanted"), [(None, True), ("true", True), ("1", True), ("False", False), ("0", False)]
)
def test_mlflows_own_variable_is_the_switch(monkeypatch, value, wanted):
    monkeypatch.delenv(SWITCH, raising=False)
    if value is not None:
        monkeypatch.setenv(SWITCH, value)
    assert system_metrics_wanted() is wanted


def test_the_use_of_the_machine_is_logged_to_the_run(tracker, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    run_id = tracker.start_run("train", {})
    with system_metrics(tracker.uri, run_id):
        wait_for(lambda: "system/cpu_utilization_percentage" in tracker.run_info(run_id).metrics, 300)


def test_a_store_that_cannot_be_used_is_ignored(tmp_path, caplog, capsys):
    done = []
    with system_metrics(f"sqlite:///{tmp_path}/no/such/folder/mlflow.db", "0" * 32):
        done.append(True)
    assert done == [True] and caplog.text == "" and capsys.readouterr().err == ""


def test_an_error_of_the_training_is_not_hidden(tracker):
    with pytest.raises(KeyError), system_metrics(tracker.uri, tracker.start_run("train", {})):
        raise KeyError("a")
