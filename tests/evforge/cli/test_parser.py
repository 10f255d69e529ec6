import re
from typing import Literal

import pytest

from detector.config import Config
from detector.config.label_timing import LabelTiming
from evforge.cli.parser import Command, Settings, argument_docs, parse, summary
from evforge.cli.verbs import VERBS


def test_settings_between_file_and_flags():
    settings = Settings(None, {"model.feature_base": "24"})
    base = Config.load(None, {"optim.lr": 0.5})
    config = settings.resolve(base, {"model.feature_base": 8, "tune.num_samples": 3})
    assert (config.model.feature_base, config.tune.num_samples, config.optim.lr) == (24, 3, 0.5)


def test_positional_list_and_required_flag():
    values = parse("build", VERBS["build"], ["a.raw", "b.raw", "--output", "out", "--train", "0-20"])
    assert values["recordings"] == ["a.raw", "b.raw"]
    assert (values["output"], values["train"], values["val"]) == ("out", "0-20", None)
    assert values["settings"] == Settings()


def test_numbers_are_read_as_numbers():
    values = parse("synth", VERBS["synth"], ["out", "--train", "2", "--duration_s", "1.5"])
    assert (values["output"], values["train"], values["duration_s"], values["test"]) == ("out", 2, 1.5, 3)


def test_argument_docs_join_continued_lines():
    def function(first, second):
        """Head.

        Args:
            first: a text
                over two lines
            second: another

        Returns:
            nothing: at all
        """

    assert argument_docs(function) == {"first": "a text over two lines", "second": "another"}


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
        skip_broken: whether to skip
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
        (["a", "--output", "b", "--size", "big"], "argument --size: invalid float value: 'big'"),
        (["a", "--output", "b", "--kind", "c"], "argument --kind: invalid choice: 'c'"),
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


def test_words_that_repeat_the_settings_of_a_group_for_a_shell():
    settings = Settings("my file.yaml", {"data.classes": "[a b]", "model.nlayers": "1", "data.height": "3"})
    assert settings.words("data") == ["--config", "'my file.yaml'", "--data.classes='[a b]'", "--data.height=3"]
    assert Settings(None, {"data.height": "3"}).words("model") == []


def test_the_file_replaces_the_base(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {feature_base: 8}\noptim: {lr: 0.125}")
    settings = Settings(str(tmp_path / "a.yaml"), {"optim.lr": "0.25"})
    config = settings.resolve(Config().with_overrides({"model.nlayers": 3}), {"optim.lr": 1, "train.seed": 5})
    assert (config.model.feature_base, config.model.nlayers, config.optim.lr, config.train.seed) == (8, 0, 0.25, 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.feature_base"], "^--model.feature_base: expects a value$"),
        (["--model.feature_base", "--name"], "^--model.feature_base: expects a value$"),
        (["--feature_base", "3"], r"^unknown argument --feature_base, did you mean --model.feature_base\?$"),
    ],
)
def test_wrong_flags_of_settings_are_a_value_error(words, message):
    with pytest.raises(ValueError, match=message):
        parse("verb", configured, words)


def test_help_lists_the_settings_with_what_is_allowed(capsys):
    with pytest.raises(SystemExit):
        parse("verb", configured, ["--help", "--optim.lr", "0.125"])
    text = capsys.readouterr().out
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  --")}
    assert lines["--optim.lr"].endswith("peak learning rate; a number above 0 (default: 0.0002, given: 0.125)")
    assert "allowed: auto, 32-true, bf16-mixed, 16-mixed (default: auto)" in lines["--train.precision"]
    # Other tests of this process may have given further names.
    assert re.search("; allowed: adam, adamw, .*or an import path", lines["--optim.optimizer"])
    assert "(default: none)" in lines["--data.height"]


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
