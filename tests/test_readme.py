"""README and the guides agree with the command line. Their commands are run by tests/evforge/test_tutorial.py."""

import inspect
import re
import shlex
from urllib.parse import urlparse

import pytest
import yaml
from repository import ROOT

from detector.config import Config
from evforge.cli.parser import parse
from evforge.cli.verbs import VERBS

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / ".github" / "guides").glob("*.md"))]
README = DOCUMENTS[0].read_text()
COMMAND = re.compile(r"^evforge .*", re.MULTILINE)


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands():
    found = [line for path in DOCUMENTS for block in blocks(path.read_text(), "sh") for line in COMMAND.findall(block)]
    lines = {line.partition("  #")[0].strip() for line in found}
    return sorted(line for line in lines if not line.startswith("evforge --"))


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.splitlines()) <= 250


def test_every_verb_is_in_the_table_and_no_other():
    table = README[README.index("## Verbs") :].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(VERBS)


def test_the_readme_names_every_verb_with_json():
    (line,) = (line for line in README.splitlines() if line.startswith("`--json` prints"))
    with_json = {name for name, function in VERBS.items() if "json" in inspect.signature(function).parameters}
    assert {name.split()[0] for name in re.findall("`([a-z][^`]*)`", line)} == with_json


@pytest.mark.parametrize("line", commands())
def test_every_command_can_be_parsed(line):
    verb, *words = shlex.split(line)[1:]
    values = parse(verb, VERBS[verb], words)
    if "command" in values and values["command"]:
        inner, *rest = values["command"]
        parse(inner, VERBS[inner], rest)


@pytest.mark.parametrize("text", blocks(README, "yaml"))
def test_every_yaml_block_has_keys_of_settings(tmp_path, text):
    content = yaml.safe_load(text)
    if "space" in content:
        assert content["space"].keys() <= Config().to_flat().keys()
        return
    (tmp_path / "settings.yaml").write_text(text)
    assert Config.load(tmp_path / "settings.yaml") != Config()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(path):
    links = re.findall(r"\]\(([^)]+)\)", path.read_text())
    for link in links:
        if urlparse(link).scheme:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w-]", "", text.lower().replace(" ", "-")) for text in headings}, (
            link
        )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_settings_in_the_text_exist(path):
    groups = "|".join({key.partition(".")[0] for key in Config().to_flat()})
    names = re.findall(rf"`(?:--)?((?:{groups})\.[a-z_]+)", path.read_text())
    assert set(names) <= Config().to_flat().keys()
