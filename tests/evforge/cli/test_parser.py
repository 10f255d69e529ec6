from typing import Annotated, Literal

import pytest

from detector.config.checks import Mistakes
from detector.config.label_timing import LabelTiming
from evforge.cli.docs import summary
from evforge.cli.parser import Command, parse
from evforge.cli.settings import Settings
from evforge.cli.verbs import VERBS


def test_positional_list_and_required_flag():
    values = parse("build", VERBS["build"], ["a.raw", "b.raw", "--output", "out", "--train", "0-20"])
    assert values["recordings"] == ["a.raw", "b.raw"]
    assert (values["output"], values["train"], values["val"]) == ("out", "0-20", None)
    assert values["settings"] == Settings()


def test_numbers_are_read_as_numbers():
    values = parse("synth", VERBS["synth"], ["out", "--train", "2", "--duration_s", "1.5"])
    assert (values["output"], values["train"], values["duration_s"], values["test"]) == ("out", 2, 1.5, 3)


def verb(
    source: str,
    more: int | None = None,
    *,
    output: str,
    size: float = 1.5,
    kind: Literal["a", "b"] = "a",
    names: list[str] | None = None,
    skip_broken: bool = False,
) -> None:
    """Do something.

    It takes 5 % of the time.

    Args:
        source: file to read
        more: a number
        output: file to write
        size: size in pixels
        kind: which way
        names: names of things
        skip_broken: whether to skip up to 5 % of the %s
    """


def test_parameters_before_the_star_are_positions_and_those_after_it_are_flags():
    assert parse("verb", verb, ["a", "3", "--output", "b", "--size=2.5", "--kind", "b", "--skip_broken"]) == {
        "source": "a",
        "more": 3,
        "output": "b",
        "size": 2.5,
        "kind": "b",
        "names": None,
        "skip_broken": True,
    }


def test_defaults_are_those_of_the_function():
    found = parse("verb", verb, ["a", "--output", "b"])
    assert (found["more"], found["size"], found["kind"], found["skip_broken"]) == (None, 1.5, "a", False)


def test_a_flag_for_a_list_may_be_repeated_and_dashes_are_underscores():
    found = parse("verb", verb, ["a", "--output", "b-c", "--names", "x", "y", "--skip-broken", "--names", "z"])
    assert (found["names"], found["skip_broken"], found["output"]) == (["x", "y", "z"], True, "b-c")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: .*--output"),
        (["a", "--output", "b", "--size", "big"], "^--size: got 'big', allowed: a number$"),
        (["a", "--output", "b", "--kind", "c"], "^--kind: got 'c', allowed: a, b$"),
        (["a", "--output", "b", "--sise", "2"], r"^unknown argument --sise, did you mean --size\?$"),
        (["a", "--output", "b", "--weather", "2"], "^unknown argument --weather, see --help$"),
        (["a", "--out", "b"], "required: --output"),
        (["a", "--output", "b", "--data.height", "3"], "^unknown argument --data.height, see --help$"),
    ],
)
def test_wrong_words_are_a_value_error(words, message):
    with pytest.raises(ValueError, match=message):
        parse("verb", verb, words)


def test_help_has_the_docstring_and_the_defaults(capsys):
    with pytest.raises(SystemExit):
        parse("verb", verb, ["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: evforge verb") and "Do something.\n\nIt takes 5 % of the time." in text
    assert "size in pixels (default: 1.5)" in text and "Args:" not in text
    assert "(default: None)" not in text and "(default: False)" not in text
    assert summary(verb) == "Do something."


def configured(settings: Settings, name: str = "x") -> None:
    """Use settings."""


def test_settings_are_a_file_and_flags_with_a_dot():
    words = ["--config", "a.yaml", "--model.feature_base", "24", "y", "--data.classes=[a b]", "--print_config"]
    found = parse("verb", configured, words)
    assert found == {
        "name": "y",
        "settings": Settings("a.yaml", {"model.feature_base": "24", "data.classes": "[a b]"}, True),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.feature_base"], "^--model.feature_base: expects a value$"),
        (["--model.feature_base", "--optim.lr", "3"], "^--model.feature_base: expects a value$"),
        (["--feature_base", "3"], r"^unknown argument --feature_base, did you mean --model.feature_base\?$"),
        (["x", "dataset"], "^unknown argument dataset, see --help$"),
    ],
)
def test_wrong_flags_of_settings_are_a_value_error(words, message):
    with pytest.raises(ValueError, match=message):
        parse("verb", configured, words)


def only_flags(settings: Settings) -> None:
    """Use settings."""


@pytest.mark.parametrize("word", ["street.yaml", "dataset"])
def test_a_positional_word_where_a_flag_belongs(word):
    flag = {"street.yaml": "--config", "dataset": "--data.dataset_path"}[word]
    with pytest.raises(ValueError, match=rf"^unknown argument {word}, did you mean {flag} {word}\?$"):
        parse("verb", only_flags, [word])


def frugal(settings: Annotated[Settings, "data", "eval"]) -> None:
    """Use some settings."""


def test_a_verb_accepts_only_the_settings_that_it_uses():
    assert parse("verb", frugal, ["--data.height", "3"])["settings"].overrides == {"data.height": "3"}
    message = "^--optim.lr: verb does not use this setting, allowed: settings of data, eval$"
    with pytest.raises(ValueError, match=message):
        parse("verb", frugal, ["--optim.lr", "3"])


def test_help_shows_the_settings_that_the_verb_uses_and_help_all_shows_all(capsys):
    for words, seen in [(["-h"], False), (["--help", "all"], True)]:
        with pytest.raises(SystemExit):
            parse("verb", frugal, words)
        text = capsys.readouterr().out
        assert "--data.height N" in text and "--eval." in text
        assert ("--optim.lr X" in text) is seen
        assert ("`--help all` describes all" in text) is not seen


def test_all_mistakes_are_found_in_one_pass():
    with pytest.raises(Mistakes) as found:
        parse("verb", verb, ["--size", "big", "--kind=c", "--sise", "2"])
    assert str(found.value).splitlines() == [
        "--size: got 'big', allowed: a number",
        "--kind: got 'c', allowed: a, b",
        "unknown argument --sise, did you mean --size?",
        "the following arguments are required: --output",
    ]


def timed(timing: LabelTiming = LabelTiming()) -> None:  # noqa: B008  # it cannot be changed
    """Use times."""


def test_a_timing_has_one_flag_for_each_field():
    found = parse("verb", timed, ["--label_fps", "30", "--label_offset", "-7", "--label_time_unit", "ms"])
    assert found == {"timing": LabelTiming(time_unit="ms", offset=-7, fps=30.0)}
    assert parse("verb", timed, []) == {"timing": LabelTiming()}


def wrapped(command: Command, *, address: str | None = None) -> None:
    """Run a command."""


def test_words_after_two_dashes_are_the_command():
    words = ["--address", "a", "--", "train", "--address", "b", "--", "c"]
    assert parse("verb", wrapped, words) == {"address": "a", "command": ["train", "--address", "b", "--", "c"]}
    assert parse("verb", wrapped, []) == {"address": None, "command": []}
