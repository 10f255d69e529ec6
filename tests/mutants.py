"""Measures how many small faults in the product its tests notice.

    python tests/mutants.py [--number 60] [--seed COMMIT] [--module PATTERN]

Draws mutants: changes of a single place of a module in `detector/` or `platform/evforge/`. Each mutant is written to a
temporary copy of the repository, never to the working tree, and the mirrored tests of the module are run there. A
mutant is killed if a test fails or the tests take too long. Otherwise it SURVIVED: either a test is missing, or the
change has no effect. The same seed draws the same mutants from the same files; without `--seed`, it is the commit.

Places that cannot change a result are skipped: docstrings, `__all__`, annotations, decorators, assertions, `strict` of
`zip`, f-strings, messages of exceptions, and text that is printed or logged.
"""

import argparse
import ast
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from functools import cache
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PRODUCT = ("detector", "platform/evforge")
TIMEOUT_FACTOR, LEAST_TIMEOUT_S, BASELINE_TIMEOUT_S = 4, 60, 1200
SYMMETRIC, SYMMETRIC_BUILTINS = {"minimum", "maximum", "gcd"}, {"min", "max"}
"""Functions of two arguments whose order does not matter; the second ones only as functions, not as methods."""
OPERATORS: dict[type[ast.AST], tuple[str, str]] = {  # pattern and replacement
    **{ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")},
    **{ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is")},
    **{ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"), ast.Add: (r"\+", "-"), ast.Sub: ("-", "+")},
    **{ast.Mult: (r"\*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "*")},
    **{ast.Pow: (r"\*\*", "*"), ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<")},
    **{ast.BitAnd: ("&", "|"), ast.BitOr: (r"\|", "&"), ast.BitXor: (r"\^", "&")},
}
REMOVED = ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete
STORED = ast.Attribute | ast.Subscript  # without an assignment to a name, the tests would only meet a NameError
TEXT_CALLS = {"print", "warn", "warning", "debug", "info", "error", "exception"}
SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "type_params"}


class Mutant(NamedTuple):
    """One change: the bytes `start` to `stop` of a file (relative path) are replaced."""

    path: str
    line: int
    kind: str
    start: int
    stop: int
    old: str
    new: str

    def apply(self, source: str) -> str:
        """Return the changed source. All other lines keep their numbers."""
        data = source.encode()
        return (data[: self.start] + self.new.encode() + data[self.stop :]).decode()

    def __str__(self) -> str:
        old, new = (" ".join(text.split())[:60] for text in (self.old, self.new))
        return f"{self.path}:{self.line}  {self.kind}: {old} -> {new}"


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module. A few of them may not compile, or change a comment only."""
    data = source.encode()
    line_starts = [0, *accumulate(map(len, data.splitlines(keepends=True)))]

    def span(node: ast.AST) -> tuple[int, int]:
        start, stop = line_starts[node.lineno - 1], line_starts[node.end_lineno - 1]
        return start + node.col_offset, stop + node.end_col_offset

    def text(start: int, stop: int) -> str:
        return data[start:stop].decode()

    def change(kind: str, start: int, stop: int, new: str) -> Mutant:
        return Mutant(path, data.count(b"\n", 0, start) + 1, kind, start, stop, text(start, stop), new)

    tree = ast.parse(source)
    choices = [node.test for node in ast.walk(tree) if isinstance(node, ast.IfExp) and _is_minimum(node)]
    for node in _visited(tree):
        for kind, left, op, right in [] if node in choices else _operations(node):
            start, stop = span(left)[1], span(right)[0]
            old, new = OPERATORS[type(op)]
            found = re.search(old.replace(" ", r"\s+"), text(start, stop))  # brackets and comments may surround it
            start += len(found.string[: found.start()].encode())
            yield change(kind, start, start + len(found[0]), new)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield change("operator", span(node)[0], span(node)[0] + 1, "+")
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            value = node.value
            new = not value if isinstance(value, bool) else value + 1 if value < 10 else value * 2
            yield change("constant", *span(node), str(new))
        for left, right in pairwise(node.args if isinstance(node, ast.Call) and not _is_symmetric(node) else []):
            (start, end), (begin, stop) = span(left), span(right)
            first, gap, second = text(start, end), text(end, begin), text(begin, stop)
            if first != second and "*" not in (first[0], second[0]):
                yield change("swapped arguments", start, stop, second + gap + first)
        if isinstance(node, REMOVED) or isinstance(node, ast.Assign) and isinstance(node.targets[0], STORED):
            yield change("removed statement", *span(node), "pass" + "\n" * text(*span(node)).count("\n"))
        tests = node.ifs if isinstance(node, ast.comprehension) else [getattr(node, "test", None)]
        for test in filter(None, tests):  # of `if`, `while`, conditional expressions and comprehensions
            yield change("negated condition", *span(test), f"not ({text(*span(test))})")


def _is_symmetric(call: ast.Call) -> bool:
    builtin = isinstance(call.func, ast.Name) and call.func.id in SYMMETRIC_BUILTINS
    return len(call.args) == 2 and (builtin or _name(call.func) in SYMMETRIC)


def _is_minimum(choice: ast.IfExp) -> bool:
    """Return whether an expression is `a if a < b else b` or alike, which has the same result with <=."""
    match choice.test:
        case ast.Compare(left, [ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()], [right]):
            return {*map(ast.dump, (left, right))} == {*map(ast.dump, (choice.body, choice.orelse))}
    return False


def _operations(node: ast.AST) -> Iterator[tuple[str, ast.expr, ast.AST, ast.expr]]:
    match node:
        case ast.Compare(left, ops, comparators):
            for op, (before, after) in zip(ops, pairwise([left, *comparators]), strict=True):
                yield "comparison", before, op, after
        case ast.BinOp(left, op, right) | ast.AugAssign(left, op, right) if type(op) in OPERATORS:
            yield "operator", left, op, right


def _visited(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes in it, without those in places that cannot change a result."""
    yield node
    skipped = {*SKIPPED_FIELDS, *(["exc"] if isinstance(node, ast.Raise) else [])}
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if name not in skipped and isinstance(child, ast.AST) and not _is_skipped(child):
                yield from _visited(child)


def _is_skipped(node: ast.AST) -> bool:
    match node:
        case ast.Call(func):
            return _name(func) in TEXT_CALLS or _name(func).endswith(("Error", "Warning"))
        case ast.Expr(value):
            return isinstance(value, ast.Constant) or _is_skipped(value)
        case ast.Assign([target]):
            return _name(target) == "__all__"
        case ast.keyword(arg):
            return arg == "strict"
        case ast.If(test):
            return ast.unparse(test).startswith(("TYPE_CHECKING", "__name__ =="))
    return isinstance(node, ast.JoinedStr | ast.Assert)


def _name(node: ast.AST) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def draw(sources: dict[str, str], number: int, seed: str) -> list[Mutant]:
    """Draw different mutants, about equally many of each kind, from sources by path; sorted by path and line."""
    by_kind: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in chain.from_iterable(mutants_of(*item) for item in sorted(sources.items())):
        by_kind[mutant.kind].append(mutant)
    generator, drawn = random.Random(seed), []
    while len(drawn) < number and (kinds := sorted(filter(by_kind.get, by_kind))):
        rest = by_kind[generator.choice(kinds)]
        mutant = rest.pop(generator.randrange(len(rest)))
        source = sources[mutant.path]
        with suppress(SyntaxError):  # for example of what follows a removed statement in the same line
            if ast.dump(ast.parse(mutant.apply(source))) != ast.dump(ast.parse(source)):
                drawn.append(mutant)
    return sorted(drawn)


def tests_of(path: str, root: Path) -> list[str]:
    """Return the mirrored tests of a module: its files, that of its package, those that import it, or their folder.

    The files of `b.py` are `test_b.py` and `test_b_*.py`, except those of other modules.
    """
    parts = Path(path).with_suffix("").parts[path.startswith("platform/") :]
    folder, package = Path("tests", *parts[:-1]), ".".join(parts[:-1])
    for mirrored in (folder / f"test_{parts[-1]}.py", folder.parent / f"test_{folder.name}.py"):
        if (root / mirrored).is_file():
            more = sorted((root / folder).glob(f"test_{parts[-1]}_*.py"))
            own = [test for test in more if not (root / path).with_name(test.name.removeprefix("test_")).exists()]
            return [str(mirrored), *(str(test.relative_to(root)) for test in own)]
    dotted = rf"{package} import" if parts[-1] == "__init__" else rf"{package}\.{parts[-1]}\b"
    imports = re.compile(rf"\b{dotted}|from {package} import .*\b{parts[-1]}\b")
    tests = sorted((root / "tests").rglob("test_*.py"))
    found = [str(test.relative_to(root)) for test in tests if imports.search(test.read_text())]
    nearest = next(some for some in (folder, *folder.parents) if (root / some).is_dir())
    return found or [str(nearest)]


def run_tests(root: Path, tests: list[str], timeout_s: float) -> tuple[str, float]:
    """Run tests of a repository; return the first that failed ("" if all passed) and the duration in seconds."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'platform'}"}  # also of started processes
    options = {"cwd": root, "env": environment, "start_new_session": True}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, subprocess.Popen(command, stdout=out, stderr=out, **options) as process:
        try:
            failed = f"exit code {code}" if (code := process.wait(timeout_s)) else ""
        except subprocess.TimeoutExpired:
            return f"timeout of {timeout_s:.0f} s", time.perf_counter() - start
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        out.seek(0)
        named = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", out.read(), re.MULTILINE)
    return named[1] if failed and named else failed, time.perf_counter() - start


def measure(root: Path, mutants: list[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Apply each mutant to a repository and run the tests of its module; yield the mutant and what became of it."""
    baseline = cache(lambda path: run_tests(root, tests_of(path, root), BASELINE_TIMEOUT_S))
    for mutant in mutants:
        failed, seconds = baseline(mutant.path)
        if failed:
            yield mutant, f"NOT MEASURED: fails without any change: {failed}"
            continue
        file, timeout_s = root / mutant.path, max(LEAST_TIMEOUT_S, TIMEOUT_FACTOR * seconds)
        source = file.read_text()
        _write(file, mutant.apply(source))
        failed, seconds = run_tests(root, tests_of(mutant.path, root), timeout_s)
        _write(file, source)
        yield mutant, f"{f'killed by {failed}' if failed else 'SURVIVED'}  {seconds:.1f} s"


def _write(file: Path, source: str) -> None:
    file.write_text(source)
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()  # Python would keep it after a change in the same second to a file of the same size


def _copy(root: Path, target: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(command, cwd=root, text=True).split("\0"):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=60, help="number of mutants")
    parser.add_argument("--seed", help="text that decides which mutants are drawn; the commit if omitted")
    parser.add_argument("--module", default="*", help="only modules whose path matches, such as 'detector/events/*'")
    options = parser.parse_args(arguments)
    seed = options.seed or subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=root, text=True).strip()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy, results = Path(folder).resolve(), []
        _copy(root, copy)
        paths = (str(file.relative_to(copy)) for top in PRODUCT for file in (copy / top).rglob("*.py"))
        sources = {path: (copy / path).read_text() for path in paths if fnmatch(path, options.module)}
        for mutant, result in measure(copy, draw(sources, options.number, seed)):
            print(f"{mutant}  {result}", flush=True)
            results.append(result.split()[0])
    killed, survived, unknown = (results.count(word) for word in ("killed", "SURVIVED", "NOT"))
    share = f" ({100 * killed / (killed + survived):.0f} %)" if killed + survived else ""
    print(f"seed {seed}: {killed} of {killed + survived} mutants killed{share}, {unknown} not measured")


if __name__ == "__main__":
    main()
