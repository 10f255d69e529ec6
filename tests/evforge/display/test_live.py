import sys

import pytest

from evforge.display.live import announce, is_live, live_view, time_text


def become_terminal(monkeypatch):
    """The captured output claims to be a terminal. Call this in the test: pytest replaces the output before it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("EVFORGE_QUIET", raising=False)


def test_a_pipe_gets_the_printed_lines_only(capsys):
    with live_view(lambda console: "drawn") as shown:
        print("line")
    assert not shown
    assert capsys.readouterr().out == "line\n"


def test_a_terminal_shows_the_drawing_below_the_lines(monkeypatch, capsys):
    become_terminal(monkeypatch)
    with live_view(lambda console: "drawn") as shown:
        print("line")
    output = capsys.readouterr().out
    assert shown
    assert "drawn" in output and output.index("line\n") < output.rindex("drawn")
    assert output.endswith("\x1b[2K")  # the drawing is removed
    assert not hasattr(sys.stdout, "rich_proxied_file")


def test_errors_of_the_drawing_do_not_reach_the_block(monkeypatch, capsys):
    become_terminal(monkeypatch)

    def fail(console):
        raise ValueError("no table")

    with live_view(fail):
        print("line")
    output = capsys.readouterr().out
    assert "line\n" in output and "no table" not in output


def test_no_colour_on_request(monkeypatch, capsys):
    become_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    with live_view(lambda console: "[red]drawn[/red]"):
        pass
    output = capsys.readouterr().out
    assert "drawn" in output and "\x1b[31m" not in output


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("EVFORGE_QUIET", "1")])
def test_terminals_that_get_no_drawing(monkeypatch, name, value):
    become_terminal(monkeypatch)
    assert is_live()
    monkeypatch.setenv(name, value)
    assert not is_live()


def test_quiet_commands_announce_nothing(capsys, monkeypatch):
    announce("shown")
    monkeypatch.setenv("EVFORGE_QUIET", "1")
    announce("not shown")
    assert capsys.readouterr().out == "shown\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (3540, "59 min"), (3590, "1 h 0 min"), (11_100, "3 h 5 min")],
)
def test_durations(seconds, text):
    assert time_text(seconds) == text
