import errno
import os
import resource
import shutil
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray.train import Checkpoint

from detector.config import Config
from evforge.tracking.tracker import Tracker
from evforge.training import run_folder
from evforge.training.run_folder import (
    CHECKPOINT_NAME,
    CheckpointError,
    checkpoint_after_broken_list,
    checkpoint_file,
    copy_checkpoint,
    has_checkpoint,
    is_study,
    is_training,
    load_config,
    logged_metrics,
    newest_run,
    note_failure,
    read_record,
    remove_checkpoints,
    whole_checkpoints,
    write_record,
    write_text,
)


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_ray_wrote_of_a_checkpoint_goes_again(tmp_path):
    def ray_writes():
        (tmp_path / "checkpoint_000001").mkdir()
        (tmp_path / "checkpoint_000001" / CHECKPOINT_NAME).write_text("hal")
        full_disk()

    (tmp_path / "checkpoint_000000").mkdir()
    (tmp_path / "checkpoint_000000" / CHECKPOINT_NAME).write_text("all")
    message = "a checkpoint cannot be written: No space left on device"
    with pytest.raises(CheckpointError, match=message), whole_checkpoints(tmp_path, tmp_path / "checkpoint_000000"):
        ray_writes()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000000"]


def test_a_checkpoint_leaves_room_for_what_ray_writes(tmp_path, monkeypatch):
    (tmp_path / CHECKPOINT_NAME).write_text("all")
    free = run_folder.SPARE_BYTES + len("all")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with whole_checkpoints(tmp_path / "run", tmp_path):
        free -= 1
    with pytest.raises(CheckpointError, match="No space left"), whole_checkpoints(tmp_path / "run", tmp_path):
        pytest.fail("it was not looked")


def cut(file):
    os.truncate(file, file.stat().st_size - 100)


def flip_a_byte(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def damage_the_directory(file):
    """One byte of a name in the directory at the end: `zipfile` raises an UnicodeDecodeError."""
    data = bytearray(file.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 9] |= 8  # names are UTF-8
    data[start + 46] = 0xFF
    file.write_bytes(data)


def test_a_training_from_the_start_has_no_checkpoint():
    with checkpoint_file(None) as found:
        assert found is None


@pytest.mark.parametrize("damage", [cut, flip_a_byte, damage_the_directory, Path.unlink])
def test_a_damaged_checkpoint_gives_way_to_an_older_one(tmp_path, damage, capsys):
    files = [tmp_path / f"checkpoint_00000{number}" / CHECKPOINT_NAME for number in (1, 3, 4)]
    for number, file in enumerate(files):
        file.parent.mkdir()
        torch.save({"epoch": number, "weights": torch.arange(10_000)}, file)
    middle, newest = (Checkpoint.from_directory(file.parent) for file in files[1:])
    for checkpoint, file in ((newest, files[2]), (middle, files[1])):
        with checkpoint_file(checkpoint) as found:
            assert found == str(file)
    assert capsys.readouterr().out == ""
    damage(files[2])
    with checkpoint_file(newest) as found:
        assert found == str(files[1])
    assert capsys.readouterr().out == f"{files[2]} is damaged: training resumes from {files[1]}\n"
    damage(files[1])
    with checkpoint_file(newest) as found:
        assert found == str(files[0])
    with checkpoint_file(middle) as found:
        assert found == str(files[0])
    shutil.move(files[0], tmp_path / "best.ckpt")
    with checkpoint_file(newest) as found:
        assert found == str(tmp_path / "best.ckpt")
    damage(tmp_path / "best.ckpt")
    with checkpoint_file(newest) as found:
        assert found is None
    assert capsys.readouterr().out.endswith(f"{files[2]} is damaged: training resumes from the start\n")


@pytest.mark.parametrize(("text", "found"), [("", "2"), ('{"check', "2"), ('{"checkpoints": []}\n', None)])
def test_a_list_of_checkpoints_that_was_cut_off(tmp_path, text, found):
    assert checkpoint_after_broken_list(tmp_path) is None
    for number in "12":
        (tmp_path / f"checkpoint_{number}").mkdir()
        (tmp_path / f"checkpoint_{number}" / CHECKPOINT_NAME).write_text("all")
    listed = tmp_path / "checkpoint_manager_snapshot.json"
    listed.write_text(text)
    assert checkpoint_after_broken_list(tmp_path) == (found and str(tmp_path / f"checkpoint_{found}" / CHECKPOINT_NAME))
    assert listed.is_file() == (found is None)


def test_files_are_whole_or_not_there(tmp_path, small_disk):
    (tmp_path / "big").mkdir()
    with pytest.raises(OSError, match="File too large"):
        write_text(tmp_path / "config.yaml", "x" * 5000)
    note_failure(tmp_path / "failures" / "a.txt", "x" * 5000)  # Ray tells of it instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    (tmp_path / "big" / CHECKPOINT_NAME).write_text("x" * 5000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(OSError, match="File too large"):
        copy_checkpoint(tmp_path / "big", tmp_path / "best.ckpt")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["big", CHECKPOINT_NAME, "failures"]


def test_a_failure_is_noted_where_there_is_room(tmp_path):
    note_failure(tmp_path / "failures" / "a.txt", "why")
    assert (tmp_path / "failures" / "a.txt").read_text() == "why"


def test_the_error_crosses_processes():
    import pickle

    error = CheckpointError.of(run_folder.Path("runs"), OSError(errno.ENOSPC, "x"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    text = "".join(traceback.format_exception_only(error))
    assert text.startswith("evforge.training.run_folder.CheckpointError: runs: a checkpoint")


@pytest.fixture
def project(tmp_path):
    """A project folder with a dataset, a store and a run."""
    root = tmp_path / "project"
    (root / "dataset").mkdir(parents=True)
    tracker = Tracker(f"sqlite:///{root}/mlflow.db", "exp")
    config = Config().with_overrides({"data.dataset_path": str(root / "dataset"), "train.storage": str(root / "runs")})
    (root / "runs" / "train-1").mkdir(parents=True)
    write_record(root / "runs" / "train-1", config, tracker, "0123")
    return root


@pytest.mark.parametrize("place", [shutil.move, shutil.copytree])
def test_a_moved_or_copied_project_has_its_own_store(project, tmp_path, place):
    place(project, tmp_path / "new")
    record = read_record(tmp_path / "new" / "runs" / "train-1")
    assert (record.run_id, record.tracking_uri) == ("0123", f"sqlite:///{tmp_path}/new/mlflow.db")


def test_a_moved_project_has_its_dataset_where_it_was_moved_to(project, tmp_path):
    run = project / "runs" / "train-1"
    assert load_config(run).data.dataset_path == str(project / "dataset")
    shutil.move(project, tmp_path / "new")
    run = tmp_path / "new" / "runs" / "train-1"
    assert load_config(run).data.dataset_path == str(tmp_path / "new" / "dataset")
    other = Config().with_overrides({"data.dataset_path": str(tmp_path)})
    assert load_config(run, other).data.dataset_path == str(tmp_path)  # it exists


def test_a_run_that_was_moved_alone_names_its_old_places(project, tmp_path):
    run = Path(shutil.move(project / "runs" / "train-1", tmp_path / "elsewhere"))
    assert read_record(run).tracking_uri == f"sqlite:///{project}/mlflow.db"
    shutil.rmtree(project / "dataset")
    assert load_config(run).data.dataset_path == str(project / "dataset")


def test_old_checkpoints_are_removed_except_the_kept_ones(tmp_path):
    names = ("checkpoint_1", "checkpoint_2", "attempt/checkpoint_3", "others")
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        os.utime(tmp_path / name, (1000, 1000))
    os.utime(tmp_path / "checkpoint_1")  # now
    remove_checkpoints(tmp_path, {tmp_path / "checkpoint_2"}, age_s=3600)
    assert [(tmp_path / name).is_dir() for name in names] == [True, True, False, True]
    remove_checkpoints(tmp_path, ())
    assert [(tmp_path / name).is_dir() for name in names] == [False, False, False, True]
    remove_checkpoints(None, ())


def test_constant_costs_are_logged_with_the_first_report_only():
    report = {"val_mean_ap": 0.5, "train_lr": 0.1, "parameters": 9.0, "latency_ms": 2.0, "epoch": 1, "fingerprint": "x"}
    changing = {"val_mean_ap": 0.5, "train_lr": 0.1}
    assert logged_metrics(report, first=True) == {**changing, "parameters": 9.0, "latency_ms": 2.0}
    assert logged_metrics(report, first=False) == changing


def _run(folder, *files):
    for name in ("run.json", *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_a_folder_of_runs_means_its_newest_run_of_the_wanted_kind(tmp_path, capsys):
    _run(tmp_path / "train-20261101-100000", "best.ckpt")
    trained = _run(tmp_path / "train-20261102-100000-10", "best.ckpt")
    _run(tmp_path / "train-20261102-100000-9", "best.ckpt")
    study = _run(tmp_path / "study-20261031-090000", "space.yaml", "best/best.ckpt")
    unfinished = _run(tmp_path / "train-20261103-100000")
    (tmp_path / "evaluate-20261104-100000").mkdir()
    assert newest_run(tmp_path, has_checkpoint, "finished run or study") == trained
    assert newest_run(tmp_path, is_training, "training") == unfinished
    assert newest_run(tmp_path, is_study, "study") == study
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines()[0] == f"{tmp_path}: using the newest finished run or study in it, {trained.name}"


def test_other_paths_stay_as_they_are(tmp_path, capsys):
    unfinished = _run(tmp_path / "train-20261103-100000")
    best = _run(tmp_path / "study-20261103-100000", "best/best.ckpt") / "best"
    for path in (unfinished, best, best / "best.ckpt", tmp_path / "missing"):
        assert newest_run(path, has_checkpoint, "run") == path
    assert capsys.readouterr().err == ""


def test_a_run_without_a_time_in_its_name_has_the_time_of_its_record(tmp_path):
    _run(tmp_path / "train-20200101-100000", "best.ckpt")
    renamed = _run(tmp_path / "baseline", "best.ckpt")
    os.utime(renamed / "run.json", (1_700_000_000, 1_700_000_000))  # in 2023
    assert newest_run(tmp_path, has_checkpoint, "run") == renamed
    os.utime(renamed / "run.json", (1_500_000_000, 1_500_000_000))  # in 2017
    assert newest_run(tmp_path, has_checkpoint, "run").name == "train-20200101-100000"


def test_a_folder_without_a_run_is_one_line(tmp_path):
    _run(tmp_path / "train-20261103-100000")
    with pytest.raises(FileNotFoundError, match=r"contains no study, allowed: the folder of one, or a folder that"):
        newest_run(tmp_path, is_study, "study")
