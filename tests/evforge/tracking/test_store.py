import shutil
import subprocess
import sys

import pytest

from evforge.tracking.tracker import Tracker

MAKE = """
import sys
from evforge.tracking.tracker import Tracker
tracker = Tracker(f"sqlite:///{sys.argv[1]}/mlflow.db", "exp")
run_id = tracker.start_run("run", {})
tracker.log_text(run_id, "before", "a.txt")
print(run_id)
"""  # in an own process, because MLflow remembers the folder of each run


def test_processes_that_create_one_store_at_once_all_use_it(tmp_path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    code = f"from evforge.tracking.tracker import Tracker; Tracker({uri!r}, 'exp').start_run('run', {{'a': 1}})"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=500)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4 and not any("INFO" in text for text in errors), errors
    tracker = Tracker(uri, "exp", create=False)
    assert len(tracker.client.search_runs([tracker.experiment_id])) == 4
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["mlflow.db"]


def test_reading_creates_no_store(tmp_path):
    uri = f"sqlite:///{tmp_path}/gone/mlflow.db"
    with pytest.raises(ValueError, match="gone/mlflow.db does not exist"):
        Tracker(uri, "exp", create=False)
    assert not (tmp_path / "gone").exists()


def test_reading_creates_no_experiment(tracking_uri):
    tracker = Tracker(tracking_uri, "exp")
    assert Tracker(tracking_uri, "other", create=False).experiment_id == ""
    assert tracker.client.get_experiment_by_name("other") is None


@pytest.mark.parametrize("name", ["a?b", "a%20b"])
def test_folders_that_an_address_cannot_name_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"allowed: a path without \? and without % before two digits"):
        Tracker(f"sqlite:///{tmp_path}/{name}/mlflow.db", "exp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [shutil.move, shutil.copytree])
def test_a_store_that_was_moved_or_copied_finds_and_writes_its_files_there(tmp_path, place, capsys):
    old, new = tmp_path / "o ld", tmp_path / "ne_w"
    made = subprocess.run([sys.executable, "-c", MAKE, str(old)], capture_output=True, text=True, check=True)
    run_id = made.stdout.strip()
    place(old, new)
    moved = Tracker(f"sqlite:///{new}/mlflow.db", "exp", create=False)
    assert f"{new}/mlflow.db was moved" in capsys.readouterr().out
    moved.log_text(run_id, "after", "b.txt")
    assert sorted(file.name for file in (new / "mlartifacts").rglob("*.txt")) == ["a.txt", "b.txt"]
    assert sorted(file.path for file in moved.client.list_artifacts(run_id)) == ["a.txt", "b.txt"]
    assert [file.name for file in old.rglob("*.txt")] == (["a.txt"] if place is shutil.copytree else [])
    Tracker(f"sqlite:///{new}/mlflow.db", "exp")
    assert capsys.readouterr().out == ""
