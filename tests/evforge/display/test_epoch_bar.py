import io
import sys

from rich.console import Console
from waiting import wait_for

from evforge.display.epoch_bar import EpochProgress, epoch_bar

PROGRESS = EpochProgress(2, 5, "training", 30, 40, "loss 0.125", 200.0)


def test_the_bar_is_one_line():
    console = Console(file=io.StringIO(), width=100)
    console.print(PROGRESS.render())
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("epoch 2/5 training 30/40 ") and line.rstrip().endswith(" loss 0.125  3 min left")
    assert line.count("━") == 15  # three quarters of 20


def test_the_terminal_shows_what_the_worker_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    path = tmp_path / "progress.json"
    path.write_text("of an earlier training")
    with epoch_bar(path) as shown:
        assert shown and not path.exists()
        PROGRESS.write(path)
        wait_for(lambda: "30/40" in capsys.readouterr().out)
    assert not path.exists()


def test_a_pipe_shows_no_bar(tmp_path, capsys):
    with epoch_bar(tmp_path / "progress.json") as shown:
        assert not shown
    assert capsys.readouterr().out == ""


def test_a_file_that_cannot_be_written_is_ignored(tmp_path):
    (tmp_path / "file").write_text("")
    PROGRESS.write(tmp_path / "file" / "progress.json")
    assert (tmp_path / "file").read_text() == ""
