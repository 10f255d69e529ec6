import json
import os
import time

import pytest

from evforge.tracking import outbox
from evforge.tracking.outbox import Write


def letter(text):
    return Write(text, "letter", {"text": text})


def test_a_full_disk_costs_one_line_of_a_file(tmp_path):
    box = outbox.Outbox(tmp_path, "http://server")
    box.store([letter("a")])
    with box.path.open("a") as stream:
        stream.write('{"what": "b", "meth')
    box.store([letter("c")])
    (path,) = outbox.stored(tmp_path, "http://server")
    assert [line["what"] for line in outbox._lines(path)[1:]] == ["a", "c"]


def test_a_file_of_a_process_with_the_same_id_is_taken(tmp_path):
    file = tmp_path / f"{outbox._host()}-{os.getpid()}-0123abcd.jsonl"
    file.write_text('{"address": "http://server"}\n{"what": "a", "method": "tag", "arguments": {}}\n')
    assert [path for path, _ in outbox.abandoned(tmp_path, "http://server")] == [file]


def test_a_file_of_another_machine_is_taken_once_it_is_old(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "FRESH_S", 3600.0)
    file = tmp_path / "elsewhere-7-0123abcd.jsonl"
    file.write_text('{"address": "http://server"}\n{"what": "a", "method": "tag", "arguments": {"key": "k"}}\n')
    assert list(outbox.abandoned(tmp_path, "http://server")) == []
    os.utime(file, (time.time() - 3700, time.time() - 3700))
    assert list(outbox.abandoned(tmp_path, "http://server")) == [(file, [Write("a", "tag", {"key": "k"})])]


def test_writes_are_appended_to_a_file_with_the_address_of_its_server(tmp_path):
    folder = tmp_path / "runs" / "undelivered"
    box = outbox.Outbox(folder, "http://server")
    assert not box.exists() and box.fate() == "are lost"
    assert box.store([letter("a")]) and box.store([letter("b"), letter("c")])
    assert outbox.stored(folder, "http://server") == [box.path] and outbox.stored(folder, "http://other") == []
    lines = [json.loads(line) for line in box.path.read_text().splitlines() if line]
    assert lines == [
        {"address": "http://server"},
        *({"what": text, "method": "letter", "arguments": {"text": text}} for text in "abc"),
    ]
    assert box.exists() and box.fate().startswith(f"stay in {box.path}, and the next evforge command")


def test_the_folder_goes_with_its_last_file(tmp_path):
    boxes = [outbox.Outbox(tmp_path / "undelivered", "http://server") for _ in range(2)]
    for box in boxes:
        box.store([letter("a")])
    assert boxes[0].path != boxes[1].path
    boxes[0].remove()
    assert outbox.stored(tmp_path / "undelivered", "http://server") == [boxes[1].path]
    boxes[1].remove()
    assert not (tmp_path / "undelivered").exists()
    boxes[1].remove()


def test_without_a_folder_nothing_is_stored():
    box = outbox.Outbox(None, "http://server")
    box.keep_fresh()
    box.remove()
    assert not box.store([letter("a")]) and not box.exists() and box.path is None


def test_a_folder_that_cannot_be_written_stores_nothing(tmp_path):
    (tmp_path / "undelivered").touch()
    assert not outbox.Outbox(tmp_path / "undelivered", "http://server").store([letter("a")])


def test_a_file_is_kept_fresh(tmp_path):
    box = outbox.Outbox(tmp_path, "http://server")
    box.store([letter("a")])
    os.utime(box.path, (5, 5))
    box.keep_fresh()
    assert time.time() - box.path.stat().st_mtime < 3600


def test_replaced_writes_are_those_that_are_left(tmp_path):
    box = outbox.Outbox(tmp_path, "http://server")
    box.store([letter("a"), letter("b"), letter("c")])
    outbox.replace(box.path, "http://server", [letter("b")])
    assert outbox._lines(box.path) == [{"address": "http://server"}, vars(letter("b"))]
    assert list(tmp_path.iterdir()) == [box.path]


@pytest.mark.parametrize(("alive", "taken"), [(True, False), (False, True)])
def test_a_file_of_another_process_of_this_machine_is_taken_once_that_has_ended(tmp_path, monkeypatch, alive, taken):
    monkeypatch.setattr(outbox.psutil, "pid_exists", {123456789: alive}.__getitem__)
    file = tmp_path / f"{outbox._host()}-123456789-0123abcd.jsonl"
    file.write_text('{"address": "http://server"}\n{"what": "a", "method": "tag", "arguments": {"key": "k"}}\n')
    os.utime(file, (5, 5) if alive else None)
    found = list(outbox.abandoned(tmp_path, "http://server"))
    assert found == ([(file, [Write("a", "tag", {"key": "k"})])] if taken else [])


def test_own_files_are_not_taken(tmp_path):
    outbox.Outbox(tmp_path, "http://server").store([letter("a")])
    assert list(outbox.abandoned(tmp_path, "http://server")) == []
