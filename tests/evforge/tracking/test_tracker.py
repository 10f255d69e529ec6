import os
import pickle
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from repository import ROOT

from evforge.tracking import outbox, retry_queue
from evforge.tracking import tracker as tracking
from evforge.tracking.store import default_uri
from evforge.tracking.tracker import Tracker, source_tags
from evforge.tracking.writes import END_STATES


@pytest.fixture
def tracker(tracking_uri: str) -> Tracker:
    return Tracker(tracking_uri, "exp")


class Outage:
    """Replaces a client method; its first calls fail because of an outage."""

    def __init__(self, call, failures):
        self.call, self.failures, self.calls = call, failures, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError("no route to host")
        return self.call(*args, **kwargs)


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """Pauses between attempts. Nobody waits, and no time passes."""
    waited: list[float] = []
    monkeypatch.setattr(retry_queue, "time", SimpleNamespace(sleep=waited.append, monotonic=lambda: 0.0))
    return waited


def test_default_is_a_database_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_importing_the_module_does_not_import_mlflow():
    code = "import sys, evforge.tracking.tracker; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=_with_path(), check=False).returncode == 0


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/x", "sqlite://", "sqlite:///:memory:", "ftp://host"])
def test_address_that_is_no_store_is_refused(uri):
    with pytest.raises(ValueError, match=f"track.tracking_uri: got '{uri}', allowed: sqlite:///FILE"):
        Tracker(uri, "exp")


def test_server_that_does_not_answer_is_refused_in_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ValueError, match=f"track.tracking_uri: got '{address}', which cannot be used") as error:
        Tracker(address, "exp")
    assert "\n" not in str(error.value)


def test_relative_database_is_made_absolute_and_keeps_files_beside_it(tracking_uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = Tracker("sqlite:///mlflow.db", "exp")
    assert tracker.uri == tracking_uri
    location = tracker.client.get_experiment(tracker.experiment_id).artifact_location
    assert location == (tmp_path / "mlartifacts").as_uri()


def test_same_name_is_the_same_experiment(tracker):
    assert Tracker(tracker.uri, "exp").experiment_id == tracker.experiment_id


def test_deleted_experiment_is_refused(tracker):
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(ValueError, match="track.experiment: got 'exp', which was deleted"):
        Tracker(tracker.uri, "exp")


def test_run_keeps_all_params_and_tags(tracker):
    many = {f"group.leaf{index}": index for index in range(230)}  # three requests of at most 100
    params = {**many, "anchors.anchor_list": [[1.0, 2.0]], "train.pretrained": None, "long": "x" * 7000}
    run = tracker.run_info(tracker.start_run("trial", params, {"fingerprint": "abc", "long": "y" * 9000}))
    assert run.name == "trial" and run.status == "RUNNING"
    assert len(run.params) == 233
    assert run.params["group.leaf229"] == "229"
    assert run.params["anchors.anchor_list"] == "[[1.0, 2.0]]" and run.params["train.pretrained"] == "null"
    assert len(run.params["long"]) == 6000 and run.params["long"].endswith("x ...")
    assert run.tags["fingerprint"] == "abc" and len(run.tags["long"]) == 5000


def test_run_whose_params_are_refused_does_not_stay_running(tracker):
    with pytest.raises(Exception, match="Invalid value"):
        tracker.start_run("trial", {"": 1})
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED"


def test_children_are_listed_in_order_under_their_parent(tracker):
    study = tracker.start_run("study", {})
    for name in ("a", "b"):
        tracker.start_run(name, {"seed": 1}, parent=study)
        time.sleep(0.002)  # start times are kept in milliseconds
    tracker.start_run("alone", {})
    assert [(run.name, run.params, run.status) for run in tracker.runs(study)] == [
        ("a", {"seed": "1"}, "RUNNING"),
        ("b", {"seed": "1"}, "RUNNING"),
    ]
    assert tracker.runs("0" * 32) == []


def test_listing_continues_over_pages(tracker, monkeypatch):
    study = tracker.start_run("study", {})
    for _ in range(3):
        tracker.start_run("trial", {}, parent=study)
    search = tracker.client.search_runs
    monkeypatch.setattr(tracker.client, "search_runs", lambda *args, **kw: search(*args, **kw, max_results=2))
    assert len(tracker.runs(study)) == 3


def test_metrics_make_curves(tracker):
    run_id = tracker.start_run("trial", {})
    tracker.log_metrics(run_id, {"val_mean_ap": 0.25, "val_ap/car (parked)": 0.5, "val_ap/car [parked]": 0.75}, step=1)
    tracker.log_metrics(run_id, {"val_mean_ap": 0.125}, step=0)
    assert tracker.metric_history(run_id, "val_mean_ap") == [(0, 0.125), (1, 0.25)]
    assert tracker.metric_history(run_id, "val_ap/car (parked)") == [(1, 0.5)]
    assert tracker.metric_history(run_id, "val_ap/car [parked]") == [(1, 0.75)], "two names, two curves"
    assert tracker.metric_history(run_id, "never") == []


def test_of_a_step_logged_twice_the_later_value_counts(tracker, monkeypatch):
    run_id = tracker.start_run("trial", {})
    for second, value in ((10, 0.75), (20, 0.25)):  # the replayed epoch of a resumed training
        monkeypatch.setattr(tracking, "time", SimpleNamespace(time=lambda second=second: second))
        tracker.log_metrics(run_id, {"val_mean_ap": value}, step=3)
    assert tracker.metric_history(run_id, "val_mean_ap") == [(3, 0.25)]


def test_values_that_are_not_finite_become_a_tag(tracker):
    run_id = tracker.start_run("trial", {})
    tracker.log_metrics(run_id, {"train_loss": float("nan"), "val_mean_ap": 0.5}, step=7)
    run = tracker.run_info(run_id)
    assert run.metrics == {"val_mean_ap": 0.5}
    assert run.tags["not_finite.train_loss"] == "nan at step 7"


def test_more_metrics_than_one_request_holds(tracker):
    run_id = tracker.start_run("trial", {})
    tracker.log_metrics(run_id, {f"m{index}": index for index in range(1001)}, step=0)
    assert tracker.run_info(run_id).metrics["m1000"] == 1000.0


def test_files_and_texts_are_kept(tracker, tmp_path):
    run_id = tracker.start_run("trial", {})
    (tmp_path / "best.yaml").write_text("model: {}\n")
    tracker.log_text(run_id, "hello", "notes/hello.txt")
    tracker.log_file(run_id, tmp_path / "best.yaml")
    tracker.log_file(run_id, tmp_path / "best.yaml", "config")
    tracker.set_tag(run_id, "epochs", 3)
    kept = tmp_path / "mlartifacts" / run_id / "artifacts"
    names = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert names == {"notes/hello.txt", "best.yaml", "config/best.yaml"}
    assert (kept / "notes/hello.txt").read_text() == "hello"
    assert tracker.run_info(run_id).tags["epochs"] == "3"


def test_missing_file_is_an_error(tracker):
    with pytest.raises(FileNotFoundError, match="nowhere.png: no such file"):
        tracker.log_file(tracker.start_run("trial", {}), "nowhere.png")


@pytest.mark.parametrize("status", END_STATES)
def test_first_ending_holds(tracker, status):
    run_id = tracker.start_run("trial", {})
    tracker.end_run(run_id, status)
    tracker.end_run(run_id, "FAILED" if status != "FAILED" else "FINISHED")
    assert tracker.run_info(run_id).status == status


def test_unknown_ending_is_refused(tracker):
    with pytest.raises(ValueError, match="status: got 'DONE', allowed: FINISHED, FAILED, KILLED"):
        tracker.end_run(tracker.start_run("trial", {}), "DONE")


def test_resumed_run_runs_and_ends_again(tracker):
    run_id = tracker.start_run("study", {})
    tracker.end_run(run_id, "KILLED")
    tracker.resume_run(run_id)
    assert tracker.run_info(run_id).status == "RUNNING"
    tracker.end_run(run_id, "FINISHED")
    assert tracker.run_info(run_id).status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED"), (OSError("disk full"), "FAILED")],
)
def test_block_ends_its_run(tracker, error, status):
    seen = []
    try:
        with tracker.run("study", {}) as run_id:
            seen.append(tracker.run_info(run_id).status)
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    run = tracker.run_info(run_id)
    assert seen == ["RUNNING"] and run.status == status
    assert run.tags.get("failure") == ("OSError: disk full" if status == "FAILED" else None)


def test_pickled_tracker_writes_to_the_same_run(tracker):
    run_id = tracker.start_run("trial", {})
    copy = pickle.loads(pickle.dumps(tracker))
    copy.log_metrics(run_id, {"val_mean_ap": 0.5}, step=0)
    assert copy.experiment_id == tracker.experiment_id
    assert tracker.metric_history(run_id, "val_mean_ap") == [(0, 0.5)]


def test_short_outage_loses_nothing(tracker, monkeypatch, pauses, caplog):
    run_id = tracker.start_run("trial", {})
    monkeypatch.setattr(tracker.client, "log_batch", Outage(tracker.client.log_batch, failures=2))
    tracker.log_metrics(run_id, {"val_mean_ap": 0.5}, step=0)
    assert tracker.metric_history(run_id, "val_mean_ap") == [(0, 0.5)]
    assert pauses == [0.5, 2.0] and caplog.records == []


def test_long_outage_warns_once_and_everything_is_sent_later(tracker, monkeypatch, pauses, caplog):
    run_id = tracker.start_run("trial", {})
    outage = Outage(tracker.client.log_batch, failures=6)
    monkeypatch.setattr(tracker.client, "log_batch", outage)
    monkeypatch.setattr(tracker.client, "get_experiment", Outage(tracker.client.get_experiment, failures=6))
    tracker.log_metrics(run_id, {"val_mean_ap": 0.25}, step=0)  # tried four times
    tracker.log_metrics(run_id, {"val_mean_ap": 0.5}, step=1)  # kept without a try: the server was away just now
    tracker.end_run(run_id, "FINISHED")
    assert outage.calls == 4 and len(caplog.records) == 1
    assert "does not answer: metrics and later writes are queued (no route to host)" in caplog.text
    assert tracker.run_info(run_id).status == "RUNNING"
    tracker.flush()  # two more failures
    assert tracker.metric_history(run_id, "val_mean_ap") == [(0, 0.25), (1, 0.5)]
    assert tracker.run_info(run_id).status == "FINISHED"
    assert pauses == [0.5, 2.0, 5.0, 5.0, 5.0]


def test_a_new_run_waits_for_its_server(tracker, monkeypatch, pauses):
    monkeypatch.setattr(tracker.client, "create_run", Outage(tracker.client.create_run, failures=2))
    assert tracker.run_info(tracker.start_run("trial", {})).status == "RUNNING"
    assert pauses == [5.0, 5.0]


def test_a_trial_waits_longer_for_its_server_than_a_command(tracker, monkeypatch):
    asked = []

    def ask(call, patience_s=retry_queue.PATIENCE_S):
        asked.append(patience_s)
        return call()

    monkeypatch.setattr(tracker._retries, "ask", ask)
    tracker.start_run("trial", {}, parent=tracker.start_run("study", {}))
    assert asked == [180.0, 3600.0]


def test_the_next_tracker_delivers_what_a_process_could_not(tracking_uri, tmp_path, monkeypatch, pauses, caplog):
    monkeypatch.setattr(retry_queue, "_left", set())
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr(retry_queue.time, "monotonic", lambda: next(clock))
    tracker = Tracker(tracking_uri, "exp", tmp_path)
    run_id = tracker.start_run("run", {"a": 1})
    for method in ("log_batch", "log_text", "log_artifact", "set_tag", "get_run", "get_experiment"):
        monkeypatch.setattr(tracker.client, method, Outage(None, failures=10**6))
    (tmp_path / "figure.txt").write_text("figure")
    tracker.log_metrics(run_id, {"val_mean_ap": 0.25}, step=3)
    tracker.log_text(run_id, "text", "error.txt")
    tracker.log_file(run_id, tmp_path / "figure.txt", "test")
    tracker.set_tag(run_id, "early_stopped", True)
    tracker.end_run(run_id, "FAILED")
    tracker.flush()
    ((file,), _) = retry_queue.undelivered()
    assert file.parent == tmp_path / "undelivered"
    assert f"5 writes stay in {file}, and the next evforge command" in caplog.text
    assert Tracker(tracking_uri, "exp", tmp_path).run_info(run_id).status == "RUNNING"  # this process still lives

    monkeypatch.setattr(outbox, "_own", set())  # as in another process
    other = Tracker(tracking_uri, "exp", tmp_path)
    info = other.run_info(run_id)
    assert info.status == "FAILED" and info.tags["early_stopped"] == "true"
    assert other.metric_history(run_id, "val_mean_ap") == [(3, 0.25)]
    assert sorted(path.path for path in other.client.list_artifacts(run_id)) == ["error.txt", "test"]
    assert retry_queue.undelivered() == ([], 0) and not file.exists()


def test_error_that_is_no_outage_is_raised(tracker):
    with pytest.raises(Exception, match="not found"):
        tracker.set_tag("0" * 32, "key", "value")


def test_a_run_states_its_command_user_and_commit(tracker, monkeypatch):
    source_tags.cache_clear()
    monkeypatch.setattr(sys, "argv", ["/usr/bin/evforge", "train", "--lr", "1"])
    monkeypatch.setenv("LOGNAME", "ada")
    run_id = tracker.start_run("train", {})
    source_tags.cache_clear()
    tags, commit = tracker.run_info(run_id).tags, ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("evforge train", "LOCAL")
    assert tags["mlflow.user"] == "ada" and tracker.client.get_run(run_id).info.user_id == "ada"
    expected = subprocess.run(commit, capture_output=True, text=True, check=False)
    assert tags.get("mlflow.source.git.commit", "") == expected.stdout.strip()


@pytest.mark.parametrize(
    ("words", "name"),
    [(["evforge", "--version"], "evforge"), (["/x/study.py", "train"], "study.py"), ([""], "python")],
)
def test_the_source_is_the_program(monkeypatch, words, name):
    monkeypatch.setattr(sys, "argv", words)
    assert source_tags.__wrapped__()["mlflow.source.name"] == name


def test_without_git_and_user_name_a_run_starts(tracker, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    def nameless():
        raise KeyError("uid")

    monkeypatch.setattr(tracking.subprocess, "run", missing)
    monkeypatch.setattr(tracking.getpass, "getuser", nameless)
    assert source_tags.__wrapped__().keys() == {"mlflow.source.name", "mlflow.source.type"}


def test_a_later_result_replaces_the_earlier_one(tracker):
    run_id = tracker.start_run("train", {}, {"mlflow.note.content": "Training.\n\nMore."})
    for text in ("mAP 0.1", "mAP 0.2"):
        tracker.note_result(run_id, text)
    assert tracker.run_info(run_id).tags["mlflow.note.content"] == "**Result:** mAP 0.2\n\nTraining.\n\nMore."


def _with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
