import errno
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT
from small_recordings import files_in

from detector.utils.atomic_write import atomic_write, remove_dead_parts
from detector.utils.remote import Address


def test_the_name_is_given_only_at_the_end(tmp_path):
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_nothing(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_appears_when_the_block_ends_well(tmp_path, memory):
    for target in (tmp_path / "new" / "a.txt", Address("memory://new/a.txt")):
        with pytest.raises(KeyError), atomic_write(target) as part:
            part.write_text("half")
            raise KeyError
        assert not target.is_file()
        with atomic_write(target) as part:
            part.write_text("whole")
            assert not target.is_file()
        assert target.open("rb").read() == b"whole"
    assert files_in(tmp_path) == ["new/a.txt"]
    assert memory.find("/") == ["/new/a.txt"]


def test_parts_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path):
    code = "import os, sys; from pathlib import Path; from detector.utils.atomic_write import atomic_write\n"
    code += "with atomic_write(Path(sys.argv[1])) as part: os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "dead.h5"], cwd=ROOT, check=False)
    with atomic_write(tmp_path / "alive.h5") as part:
        assert len(files_in(tmp_path)) == 2
        remove_dead_parts(tmp_path)
        assert files_in(tmp_path) == [part.name]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with atomic_write(tmp_path / "a.txt") as first:
        with atomic_write(tmp_path / "a.txt") as second:
            first.write_text("first")
            second.write_text("second")
        assert (tmp_path / "a.txt").read_text() == "second"
    assert (tmp_path / "a.txt").read_text() == "first"
    assert files_in(tmp_path) == ["a.txt"]


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "a.txt.part").symlink_to(tmp_path / "secret")
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert (tmp_path / "secret").read_text() == "kept"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    (tmp_path / "a[1].txt.0123abcd.part").write_text("half")
    (tmp_path / "a[1].txt.notes.part").write_text("a user's own file")
    (tmp_path / "b.txt.0123abcd.part").write_text("of another target")
    with atomic_write(tmp_path / "a[1].txt") as part:
        part.write_text("new")
    assert files_in(tmp_path) == ["a[1].txt", "a[1].txt.notes.part", "b.txt.0123abcd.part"]


def test_a_writer_that_looks_at_the_suffix_finds_it(tmp_path):
    with atomic_write(tmp_path / "model.pt2", keep_suffix=True) as part:
        assert part.name.startswith("model.pt2.") and part.suffix == ".pt2"
        part.write_text("new")
    assert files_in(tmp_path) == ["model.pt2"]


@pytest.mark.parametrize("answer", [True, False])
def test_a_part_that_another_process_takes_for_dead_is_replaced(tmp_path, monkeypatch, answer):
    """Between its creation and its lock, another process may lock and remove it."""
    removed = []

    def lock(file):
        if not removed:
            removed.append(Path(file.name))
            removed[0].unlink()
            return answer
        return True

    monkeypatch.setattr("detector.utils.atomic_write._lock", lock)
    with atomic_write(tmp_path / "a.txt") as part:
        assert part.is_file() and part != removed[0]
        part.write_text("new")
    assert files_in(tmp_path) == ["a.txt"]


def test_a_file_system_without_locks_writes_and_removes_nothing_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr("detector.utils.atomic_write._lock", lambda file: None)
    (tmp_path / "a.txt.0123abcd.part").write_text("perhaps still being written")
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert files_in(tmp_path) == ["a.txt", "a.txt.0123abcd.part"]


@pytest.mark.parametrize(("named", "expected"), [(None, "target.txt"), ("other.txt", "other.txt")])
def test_the_error_of_a_full_disk_names_the_file(tmp_path, named, expected):
    target = tmp_path / "target.txt"
    with pytest.raises(OSError, match="No space left on device") as failure, atomic_write(target):
        raise OSError(errno.ENOSPC, "No space left on device", named)
    assert Path(failure.value.filename).name == expected and list(tmp_path.iterdir()) == []
