"""Rules of the repository: locations of files, imports, sizes of files and functions, documented commands."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import yaml
from repository import ROOT

TOP_LEVEL = {"LICENSE", "README.md", "cluster.yaml", "detector", "platform", "pyproject.toml", "tests", "tune_spaces"}
HIDDEN = {".ci", ".github", ".gitignore"}
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q uv && .venv/bin/uv sync -q --inexact --extra platform"
COMMANDS = [f"{INSTALL} && .venv/bin/evforge quickstart", f"{INSTALL} && .venv/bin/pytest"]
REFERENCE = {
    *("anchors", "box", "data_factory", "feature_extractors", "jitting", "jitting_test"),
    *("lightning_model", "losses", "rpn", "single_stage_detector"),
}
PRIVATE = re.compile(
    r"^(ray|optuna|torch)(\.\w+)*\._(?!_)\w+|\._(local_tuner|trial_state|ot_study|ot_trials)\b|^torch\.ops\.(onednn|mkldnn)\b"
)
SOAK = ".venv/bin/pytest -m soak"
CHECKS = ".venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports"
UNTESTED: dict[str, str] = {}  # modules without a test file of their own, with the reason
# Folders of single machines, and hosts of package registries. The pattern does not match its own text.
MACHINE = re.compile(
    r"/hom[e]/\w|/Use[r]s/\w|/roo[t]/|/wor[k]/|/op[t]/|/mn[t]/|bash_job[s]|pythonhoste[d]|//p[y]pi|npmj[s]"
)


@cache
def _files() -> tuple[Path, ...]:
    """All files of the repository, relative to its root."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file())


def _sources(*folders: str) -> Iterator[tuple[Path, str]]:
    for path in _files():
        if path.suffix == ".py" and path.parts[0] in folders:
            yield path, (ROOT / path).read_text()


def _python(*lines: str) -> subprocess.CompletedProcess:
    """Run lines of Python in a new process that can import from both source roots."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _fenced_commands(text: str) -> list[str]:
    return [block.strip() for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def test_platform_is_no_package():
    assert not (ROOT / "platform" / "__init__.py").exists(), "it shadows the module of the standard library"
    done = _python("import platform, evforge", "print(platform.python_version())")
    assert done.returncode == 0, done.stderr


def test_top_level_holds_the_fixed_names_only():
    assert {path.parts[0] for path in _files()} - TOP_LEVEL - HIDDEN == set()


def test_imports_run_the_way_they_should():
    done = _python("from importlinter.cli import lint_imports", "import sys", "sys.exit(lint_imports(no_cache=True))")
    assert done.returncode == 0, done.stdout + done.stderr


def test_detector_imports_nothing_of_the_platform():
    names = [".".join(path.with_suffix("").parts) for path, _ in _sources("detector")]
    done = _python(
        "import importlib, sys",
        "class Blocker:",
        "    def find_spec(self, name, path=None, target=None):",
        "        if name.partition('.')[0] in ('ray', 'mlflow', 'optuna', 'evforge'):",
        "            raise ImportError(f'{name} is not installed')",
        "sys.meta_path.insert(0, Blocker())",
        f"for name in {[name.removesuffix('.__init__') for name in names]!r}:",
        "    importlib.import_module(name)",
    )
    assert len(names) > 10 and done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["detector", "detector.config", "evforge", "evforge.cli.main"])
def test_light_modules_leave_the_heavy_ones_out(module):
    heavy = "{'torch', 'ray', 'mlflow', 'optuna', 'matplotlib', 'pytorch_lightning'}"
    done = _python(f"import sys, {module}", f"print(sorted({heavy} & sys.modules.keys()))")
    assert done.stdout == "[]\n", done.stderr


def test_every_yaml_loads():
    paths = [path for path in _files() if path.suffix in (".yaml", ".yml")]
    assert paths
    for path in paths:
        assert all(document is not None for document in yaml.safe_load_all((ROOT / path).read_text())), path


def test_readme_opens_with_the_two_commands():
    assert _fenced_commands((ROOT / "README.md").read_text())[:2] == COMMANDS


def test_continuous_integration_runs_the_second_command_and_the_checks():
    script = ROOT / ".ci" / "run"
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and "set -euo pipefail" in lines
    assert lines[-3:] == [COMMANDS[1], SOAK, CHECKS]
    assert os.access(script, os.X_OK)
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    assert _fenced_commands(guide)[:2] == [COMMANDS[1], f"{SOAK}\n{CHECKS}"]


def test_nothing_names_one_machine():
    for path in _files():
        data = (ROOT / path).read_bytes()
        if b"\0" not in data[:8192]:
            found = MACHINE.search(data.decode())
            assert found is None, f"{path} mentions {found[0]}"


@pytest.mark.parametrize("text", ["see /" + "home/ada/x", "/" + "work/main", "https://files.python" + "hosted.org"])
def test_names_of_one_machine_are_found(text):
    assert MACHINE.search(text)


def test_files_and_functions_stay_small():
    too_large = []
    for path, source in _sources("detector", "platform"):
        lines = source.count("\n")
        if lines > 400:
            too_large.append(f"{path}: {lines} lines, allowed: 400")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > 60:
                    too_large.append(f"{path}:{node.lineno} {node.name}: {length} lines, allowed: 60")
    assert too_large == []


def test_modules_say_what_they_export():
    missing = []
    for path, source in _sources("detector", "platform"):
        body = ast.parse(source).body
        only_a_docstring = all(isinstance(node, ast.Expr) for node in body)
        if not only_a_docstring and "__all__" not in _assigned(body):
            missing.append(str(path))
    assert missing == []


def test_packages_are_small_and_say_what_belongs_there():
    folders: dict[Path, list[str]] = {}
    for path, _ in _sources("detector", "platform"):
        folders.setdefault(path.parent, []).append(path.stem)
    for folder, names in folders.items():
        assert "__init__" in names, f"{folder} is not a package"
        modules = set(names) - {"__init__"}
        most = 11 if folder == Path("detector") else 10  # the reference API has ten, in addition to __main__
        assert len(modules) <= most, f"{folder}: {len(modules)} modules, allowed: {most}"
        text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())) or ""
        roots = (Path("detector"), Path("platform/evforge"))
        assert text and (folder in roots or "Does not belong here" in text), (
            f"{folder}: the docstring does not state what belongs there"
        )


def test_the_top_of_the_detector_holds_the_reference_alone():
    modules = {path.stem for path, _ in _sources("detector") if path.parent == Path("detector")}
    assert modules == {*REFERENCE, "__init__", "__main__"}


def test_tests_mirror_the_tree():
    """The folder of each test file mirrors a package."""
    packages = {path.parent for path, _ in _sources("detector", "platform")}
    for path, _ in _sources("tests"):
        if path.parts[1] in ("detector", "evforge"):
            mirrored = Path(*path.parts[1:-1]) if path.parts[1] == "detector" else Path("platform", *path.parts[1:-1])
            assert mirrored in packages, f"{path}: there is no {mirrored}"


def test_every_module_has_a_test_file_at_the_mirrored_path():
    """`detector/a/b.py` is tested in `tests/detector/a/test_b.py`, `platform/evforge/a.py` in `tests/evforge/...`."""
    modules = {path for path, _ in _sources("detector", "platform") if path.stem not in ("__init__", "__main__")}
    tests = {path for path, source in _sources("tests") if re.search(r"^\s*(async )?def test_", source, re.MULTILINE)}
    untested = {str(path) for path in modules if _mirrored_test(path) not in tests}
    assert len(modules) > 200 and untested - UNTESTED.keys() == set()
    assert UNTESTED.keys() - untested == set(), "they have tests, or do not exist"


def _mirrored_test(module: Path) -> Path:
    parts = module.parts[module.parts[0] == "platform" :]
    return Path("tests", *parts[:-1], f"test_{module.name}")


@pytest.mark.parametrize(
    ("module", "test"),
    [
        ("detector/losses.py", "tests/detector/test_losses.py"),
        ("detector/data/check/finding.py", "tests/detector/data/check/test_finding.py"),
        ("platform/evforge/quickstart.py", "tests/evforge/test_quickstart.py"),
        ("platform/evforge/space/space.py", "tests/evforge/space/test_space.py"),
    ],
)
def test_the_mirrored_path_of_a_module(module, test):
    assert _mirrored_test(Path(module)) == Path(test)


def test_every_folder_of_tests_is_collected(pytestconfig):
    """By default pytest skips folders named `build`, `dist`, `venv` and others."""
    patterns = pytestconfig.getini("norecursedirs")
    left_out = {
        path.parent
        for path, _ in _sources("tests")
        if any(fnmatch(part, pattern) for part in path.parts[1:-1] for pattern in patterns)
    }
    assert left_out == set()


def test_private_parts_of_other_libraries_are_used_in_one_place_each():
    found = []
    for path, source in _sources("detector", "platform"):
        if not path.stem.endswith("_compat"):
            found += [f"{path}: {name}" for name in _private_names(ast.parse(source))]
    assert found == []


def _private_names(tree: ast.AST) -> Iterator[str]:
    """Private names of Ray, Optuna and torch, and their private attributes that are known to be used."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.search(ast.unparse(node)):
            yield ast.unparse(node)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        module = f"{getattr(node, 'module', None) or ''}."
        yield from (f"{module}{name}" for name in names if PRIVATE.search(f"{module}{name}".lstrip(".")))


@pytest.mark.parametrize(
    "line",
    [
        "import ray._private.state",
        "from torch._inductor import aoti_load_package",
        "torch.ops.mkldnn._convolution_pointwise(x)",
        "self._trial_state[trial]",
        "tuner._local_tuner",
    ],
)
def test_private_names_are_found(line):
    assert list(_private_names(ast.parse(line)))


def _assigned(body: list[ast.stmt]) -> set[str]:
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}
