"""All benchmarks run with tiny sizes. Each benchmark checks that the compared results are equal."""

import json
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script as a command and returns the rows of its last line, which is JSON."""
    monkeypatch.syspath_prepend(FOLDER)

    def call(name, *options):
        monkeypatch.setattr(sys, "argv", [name, "--small", *options])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]

    return call


NAMES = sorted({path.stem for path in FOLDER.glob("*.py")} - {"__main__", "rounds"})


LONG = {"overhead": pytest.mark.soak}  # two searches


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(name, ())) for name in NAMES])
def test_benchmark_runs(run, name):
    rows = run(name)
    assert rows and all(row["ratio"] > 0 for row in rows)
