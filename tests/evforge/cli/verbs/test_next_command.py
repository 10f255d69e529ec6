import shlex

from evforge.cli.settings import Settings
from evforge.cli.verbs.next_command import print_next


def test_the_next_command_is_complete_and_quoted(capsys):
    settings = Settings("my settings.yaml", {"data.delta_t": "10000", "track.tracking_uri": "sqlite:///a b.db"})
    print_next("evaluate", "runs/my run", settings=settings, groups=("track",))
    line = capsys.readouterr().out.removeprefix("next: ")
    words = ["evforge", "evaluate", "runs/my run", "--config", "my settings.yaml"]
    assert shlex.split(line) == [*words, "--track.tracking_uri=sqlite:///a b.db"]


def test_no_password_is_printed(capsys):
    address = "http://ada:pw7%2B@h:5000"
    settings = Settings(None, {"track.tracking_uri": address, "data.dataset_path": "dataset"})
    print_next("registry", "list", address, settings=settings, groups=("track", "data"))
    flags = "--track.tracking_uri=http://h:5000 --data.dataset_path=dataset"
    assert capsys.readouterr().out == f"next: evforge registry list http://h:5000 {flags}\n"


def test_a_flag_is_not_given_twice(capsys):
    settings = Settings(None, {"data.dataset_path": "old", "data.delta_t": "5"})
    print_next("train", "--data.dataset_path", "new", settings=settings, groups=("data",))
    assert capsys.readouterr().out == "next: evforge train --data.dataset_path new --data.delta_t=5\n"
