import shlex

from evforge.cli.settings import Settings
from evforge.cli.verbs.next_command import print_next


def test_the_next_command_is_complete_and_quoted(capsys):
    settings = Settings("my settings.yaml", {"data.delta_t": "10000", "track.tracking_uri": "sqlite:///a b.db"})
    print_next("evaluate", "runs/my run", settings=settings, groups=("track",))
    line = capsys.readouterr().out.removeprefix("next: ")
    words = ["evforge", "evaluate", "runs/my run", "--config", "my settings.yaml"]
    assert shlex.split(line) == [*words, "--track.tracking_uri=sqlite:///a b.db"]
