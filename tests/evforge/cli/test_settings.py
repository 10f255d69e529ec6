import argparse
import re

import pytest

from detector.config import Config
from evforge.cli.settings import GROUPS, Settings, add_settings


def test_settings_between_file_and_flags():
    settings = Settings(None, {"model.feature_base": "24"})
    base = Config.load(None, {"optim.lr": 0.5})
    config = settings.resolve(base, {"model.feature_base": 8, "tune.num_samples": 3})
    assert (config.model.feature_base, config.tune.num_samples, config.optim.lr) == (24, 3, 0.5)


def test_words_that_repeat_the_settings_of_a_group_for_a_shell():
    settings = Settings("my file.yaml", {"data.classes": "[a b]", "model.nlayers": "1", "data.height": "3"})
    assert settings.words("data") == ["--config", "'my file.yaml'", "--data.classes='[a b]'", "--data.height=3"]
    assert Settings(None, {"data.height": "3"}).words("model") == []
    for address, shown in (
        ("postgresql://ada:p w@db/mlflow", "postgresql://ada@db/mlflow"),
        ("http://ada:pw@h:5000", "http://h:5000"),
        ("http://ada@h:5000", "http://ada@h:5000"),
    ):
        assert Settings(None, {"track.tracking_uri": address}).words("track") == [f"--track.tracking_uri={shown}"]
    assert settings.words("model", "data") == [*settings.words("data")[:3], "--model.nlayers=1", "--data.height=3"]


def test_the_file_replaces_the_base(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {feature_base: 8}\noptim: {lr: 0.125}")
    settings = Settings(str(tmp_path / "a.yaml"), {"optim.lr": "0.25"})
    config = settings.resolve(Config().with_overrides({"model.nlayers": 3}), {"optim.lr": 1, "train.seed": 5})
    assert (config.model.feature_base, config.model.nlayers, config.optim.lr, config.train.seed) == (8, 0, 0.25, 5)


def helps(monkeypatch, shown=GROUPS, given=None):
    """Return the help of each setting by its flag, one line each."""
    monkeypatch.setenv("COLUMNS", "500")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_settings(parser, shown, given or {})
    text = re.sub(r"\n {10,}", "  ", parser.format_help())  # a long flag is on a line of its own
    return {line.split()[0]: line.strip() for line in text.splitlines() if line.startswith("  --")}


def test_help_has_meaning_kind_default_and_what_is_allowed(monkeypatch):
    found = helps(monkeypatch, given={"optim.lr": "0.125"})
    assert set(found) >= {f"--{key}" for key in Config().to_flat()}
    assert found["--optim.lr"].endswith("peak learning rate; a number above 0 (default: 0.0002, given: 0.125)")
    assert found["--optim.lr"].split()[:2] == ["--optim.lr", "X"]
    assert found["--train.precision"].split()[1] == "auto|32-true|bf16-mixed|16-mixed"
    assert found["--tune.max_concurrent"].split()[1] == "auto|N"
    assert found["--data.split_polarity"].split()[1] == "true|false"
    # Other tests of this process may have given further names.
    assert re.search("; allowed: adam, adamw, .*or an import path", found["--optim.optimizer"])
    assert "(default: none)" in found["--data.height"] and found["--data.height"].split()[1] == "N"


def test_only_the_shown_groups_are_described_and_all_are_read(monkeypatch):
    found = helps(monkeypatch, shown=["eval"])
    assert {flag.split(".")[0] for flag in found if "." in flag} == {"--eval"}
    parser = argparse.ArgumentParser()
    add_settings(parser, ["eval"], {})
    assert vars(parser.parse_args(["--data.preprocess", "lab.frames:Mine"]))["data.preprocess"] == "lab.frames:Mine"


def test_a_wrong_file_is_found_without_the_rest(tmp_path):
    Settings(None, {"optim.lr": "wrong"}).check()
    (tmp_path / "a.yaml").write_text("optim.lr: -1")
    with pytest.raises(ValueError, match=r"optim.lr: got -1"):
        Settings(str(tmp_path / "a.yaml")).check()


def test_print_config_prints_and_stops(capsys):
    with pytest.raises(SystemExit):
        Settings(None, {"optim.lr": "0.5"}, print_only=True).resolve()
    assert "lr: 0.5" in capsys.readouterr().out
