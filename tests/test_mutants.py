"""The command that measures how many small faults the tests notice."""

import ast
import subprocess
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from repository import ROOT

SOURCE = '''"""Text with 1 < 2."""

__all__ = ["f"]


def f(a: int | None, b: "list[3]" = 7) -> dict[str, 4]:
    """A docstring: not -1."""
    assert a is not None
    self = b
    self.ß, c = "ü" * 2, (  # < in a comment
        a
    ) < b
    self.value = g(
        a,
        b,
    )
    if a:
        raise ValueError(f"a: got {a + 1}", 5, 6)
    print("a", 8 - 9)
    return -a
'''
KINDS = {"comparison", "constant", "operator", "swapped arguments", "removed statement", "negated condition"}
MODULE = "def f(a, b):\n    return a - b if a > b else 0\n"
TEST = "from detector.a.b import f\n\n\ndef test_f():\n    assert [f(5, 3), f(1, 3)] == [2, 0]\n"


@pytest.fixture(scope="module")
def mutants():
    spec = spec_from_file_location("mutants", ROOT / "tests" / "mutants.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_place_that_can_change_a_result_is_found_once(mutants):
    found = [(one.line, one.kind, one.old, one.new) for one in mutants.mutants_of("detector/a.py", SOURCE)]
    assert {kind for _, kind, _, _ in found} == KINDS
    call = "g(\n        a,\n        b,\n    )"
    assert sorted(found) == [
        (6, "constant", "7", "8"),
        (10, "constant", "2", "3"),
        (10, "operator", "*", "/"),
        (12, "comparison", "<", "<="),
        (13, "removed statement", f"self.value = {call}", "pass\n\n\n"),
        (14, "swapped arguments", "a,\n        b", "b,\n        a"),
        (17, "negated condition", "a", "not (a)"),
        (18, "removed statement", 'raise ValueError(f"a: got {a + 1}", 5, 6)', "pass"),
        (20, "operator", "-", "+"),
    ]


def test_arguments_of_symmetric_functions_are_not_swapped(mutants):
    found = mutants.mutants_of("detector/a.py", "x = min(a, b)\ny = np.maximum(a, b)\nz = divmod(a, b)\n")
    assert [one.line for one in found if one.kind == "swapped arguments"] == [3]
    found = mutants.mutants_of("detector/a.py", "x = torch.min(a, 1)\ny = np.allclose(a, b)\nz = np.maximum(a, b, c)\n")
    assert {one.line for one in found if one.kind == "swapped arguments"} == {1, 2, 3}


def test_the_check_of_zip_is_an_assertion(mutants):
    found = mutants.mutants_of("detector/a.py", "x = zip(a, b, strict=True)\ny = sorted(a, reverse=True)\n")
    assert [one.line for one in found if one.kind == "constant"] == [2]


def test_ties_of_a_minimum_are_not_changed(mutants):
    source = "x = a if a < b else b\ny = a[1] if b >= a[1] else b\nz = a if a < b else c\nw = a if a == b else b\n"
    found = mutants.mutants_of("detector/a.py", source)
    assert [one.line for one in found if one.kind == "comparison"] == [3, 4]


def test_a_mutant_differs_in_its_place_only_and_lines_keep_their_numbers(mutants):
    lines = SOURCE.splitlines()
    for one in mutants.mutants_of("detector/a.py", SOURCE):
        changed = one.apply(SOURCE)
        compile(changed, "a.py", "exec")
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(SOURCE))
        after = changed.splitlines()
        stop = one.line + one.old.count("\n")
        assert after[: one.line - 1] == lines[: one.line - 1] and after[stop:] == lines[stop:]
        assert len(after) == len(lines)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a is  not b", {"a is b"}),
        ("a not in b", {"a in b"}),
        ("a ** b", {"a * b"}),
        ("a @ b", set()),
        ("True", {"False"}),
        ("0.5", {"1.5"}),
        ("40", {"80"}),
        ("f(a, *b)", set()),
        ("f(a, a)", set()),
        ("[a for a in b if a]", {"[a for a in b if not (a)]"}),
        ("a < b == c", {"a <= b == c", "a < b != c"}),
    ],
)
def test_changes_of_an_expression(mutants, expression, expected):
    source = f"x = {expression}"
    assert {one.apply(source) for one in mutants.mutants_of("a.py", source)} == {f"x = {text}" for text in expected}


def test_a_seed_draws_the_same_mutants_whatever_the_order_of_the_files(mutants):
    sources = {"detector/a.py": SOURCE, "detector/b.py": SOURCE}
    drawn = mutants.draw(sources, 8, "a seed")
    assert len(set(drawn)) == 8 and drawn == mutants.draw(dict(reversed(sources.items())), 8, "a seed")
    assert drawn != mutants.draw(sources, 8, "another seed")
    assert {one.kind for one in mutants.draw(sources, 12, "a seed")} == KINDS
    assert len(mutants.draw(sources, 100, "a seed")) == 18


def test_a_change_that_does_not_compile_or_is_in_a_comment_is_not_drawn(mutants):
    source = "x.a = (\n    1\n); x.b = (c  # <\n    < d)\n"
    drawn = mutants.draw({"a.py": source}, 10, "a seed")
    assert sorted(one.old for one in drawn) == ["1", "x.b = (c  # <\n    < d)"]


@pytest.fixture
def folder(tmp_path):
    """A repository with one module and its test."""
    for name, text in {
        "detector/__init__.py": "",
        "detector/a/__init__.py": "",
        "detector/a/b.py": MODULE,
        "tests/detector/a/test_b.py": TEST,
        "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def test_tests_of_a_module(mutants, folder):
    assert mutants.tests_of("detector/a/b.py", folder) == ["tests/detector/a/test_b.py"]
    for more in ("tests/detector/a/test_b_more.py", "tests/detector/a/test_b_c.py", "detector/a/b_c.py"):
        (folder / more).write_text("")
    assert mutants.tests_of("detector/a/b.py", folder) == [
        "tests/detector/a/test_b.py",
        "tests/detector/a/test_b_more.py",
    ]
    assert mutants.tests_of("detector/a/other.py", folder) == ["tests/detector/a"]
    (folder / "tests/detector/test_c.py").write_text("from detector.a import other\n")
    (folder / "tests/test_d.py").write_text("import detector.a.other\n")
    assert mutants.tests_of("detector/a/other.py", folder) == ["tests/detector/test_c.py", "tests/test_d.py"]
    (folder / "tests/detector/test_a.py").write_text("")
    assert mutants.tests_of("detector/a/__init__.py", folder) == ["tests/detector/test_a.py"]
    assert mutants.tests_of("platform/evforge/x.py", folder) == ["tests"]


def test_the_command_applies_mutants_in_a_copy(mutants, folder, capsys):
    mutants.main(["--number", "20", "--seed", "s"], root=folder)
    *lines, last = capsys.readouterr().out.splitlines()
    name = "tests/detector/a/test_b.py::test_f"
    assert [line.rpartition("  ")[0] for line in lines] == [
        "detector/a/b.py:2  comparison: > -> >=  SURVIVED",  # no difference: both branches return 0
        f"detector/a/b.py:2  constant: 0 -> 1  killed by {name}",
        f"detector/a/b.py:2  negated condition: a > b -> not (a > b)  killed by {name}",
        f"detector/a/b.py:2  operator: - -> +  killed by {name}",
    ]
    assert last == "seed s: 3 of 4 mutants killed (75 %), 0 not measured"
    assert (folder / "detector/a/b.py").read_text() == MODULE
    mutants.main(["--seed", "s", "--module", "detector/x*"], root=folder)
    assert capsys.readouterr().out == "seed s: 0 of 0 mutants killed, 0 not measured\n"


def test_tests_that_fail_without_a_mutant_or_take_too_long(mutants, folder, capsys, monkeypatch):
    (folder / "tests/detector/a/test_b.py").write_text("def test_g():\n    assert 0\n")
    mutants.main(["--number", "1", "--seed", "s"], root=folder)
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("NOT MEASURED: fails without any change: tests/detector/a/test_b.py::test_g")
    assert last == "seed s: 0 of 0 mutants killed, 1 not measured"
    (folder / "tests/detector/a/test_b.py").write_text("import time\ntime.sleep(60)\n")
    assert mutants.run_tests(folder, ["tests"], 3)[0] == "timeout of 3 s"
