from types import SimpleNamespace

import pytest

from evforge.search import search_progress
from evforge.search.search_progress import SearchProgress


def record(status, epoch=None):
    return SimpleNamespace(status=status, reports=[] if epoch is None else [{"epoch": epoch}])


@pytest.fixture
def clock(monkeypatch):
    """60 s after the start of the search."""
    monkeypatch.setattr(search_progress.time, "monotonic", lambda: 160.0)
    return 100.0


def test_the_estimate_counts_parts_of_running_trials(clock):
    progress = SearchProgress(epochs=4, count=6, further=1, start=clock)
    records = [record("finished", 4), record("running", 2), record("running")]
    assert progress.trained(records) == 1.5
    # 1.5 trials in 60 s, and 5.5 of 7 trials are left
    assert progress.summary(records) == "after 60 s: 1 finished, 2 running, 6 planned, about 4 min left"


def test_parts_of_killed_trials_count_and_failed_trials_are_done(clock):
    progress = SearchProgress(epochs=4)
    assert progress.trained([record("killed", 3), record("failed"), record("stopped early", 1)]) == 2.75
    assert progress.summary([]).endswith(": no trial")
    assert SearchProgress(epochs=4, start=clock).summary([record("finished", 4)]) == "after 60 s: 1 finished"


def test_trials_of_an_earlier_driver_do_not_count_for_the_speed(clock):
    progress = SearchProgress(epochs=4, count=4, before=1.0, start=clock)
    records = [record("finished", 4), record("stopped early", 1)]
    assert progress.summary(records) == "after 60 s: 1 finished, 1 stopped early, 4 planned, about 2 min left"


@pytest.mark.parametrize("records", [[], [record("running")], [record("failed")] * 2])
def test_no_estimate_without_work_done_or_left(clock, records):
    assert "left" not in SearchProgress(epochs=4, count=2, start=clock).summary(records)


def test_lines_about_trials_are_not_printed_above_the_table(capsys):
    progress = SearchProgress(epochs=4)
    progress.say(lambda: "shown")
    progress.live = True
    progress.say(lambda: "not shown")
    assert capsys.readouterr().out == "shown\n"


def test_a_line_that_cannot_be_made_fails_no_trial(capsys):
    def fail():
        raise ValueError("no row")

    SearchProgress(epochs=4).say(fail)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "warning: the progress of the search was not drawn: ValueError: no row\n"
