import shutil
import subprocess

import pytest

from evforge.cli.completion import completion_script
from evforge.cli.verbs import VERBS


def completed(folder, *words):
    """Return what bash offers for the last word."""
    script = folder / "evforge.bash"
    if not script.exists():
        script.write_text(completion_script("bash", VERBS))
    code = (
        f"source {script}; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; "
        '_shtab_evforge evforge "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    output = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=folder).stdout
    return {word.strip() for word in output.split("\n")} - {""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion")
    (path / "mine.yaml").write_text("")
    (path / "data").mkdir()
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], {"train"}),
        (["train", "--data.de"], {"--data.delta_t"}),
        (["train", "--train.precision", "b"], {"bf16-mixed"}),
        (["train", "--data.preprocess", "event"], {"event_cube"}),
        (["train", "--config", "m"], {"mine.yaml", "mevdt"}),
        (["registry", "pro"], {"promote"}),
        (["evaluate", "da"], {"data"}),
    ],
)
def test_bash_completes(folder, words, expected):
    assert completed(folder, "evforge", *words) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_the_script(tmp_path, shell):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / f"evforge.{shell}"
    script.write_text(completion_script(shell, VERBS))
    assert subprocess.check_output([program, "-n", str(script)], stderr=subprocess.STDOUT) == b""
