import importlib.util
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from detector.utils import compiled as module
from detector.utils.compiled import HAS_COMPILER

LOOPS = '''
from detector.utils.compiled import compiled

@compiled
def last_multiple(numbers, divisor):
    """Return the last number that `divisor` divides, -1 without one."""
    found = -1
    for number in numbers:
        if number % divisor == 0:
            found = number
    return found

@compiled
def ratio(a, b):
    return a / b

@compiled
def fill(numbers, divisor):
    """Write numbers above 0, one after the other."""
    total = 1
    for index in range(len(numbers)):
        total += index % divisor
        numbers[index] = total
'''


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def loops(tmp_path_factory):
    """Compiled functions in a new file, of which no cache holds an older version."""
    path = tmp_path_factory.mktemp("loops") / "loops.py"
    path.write_text(LOOPS)
    return load(path, "loops")


needs_numba = pytest.mark.skipif(not HAS_COMPILER, reason="numba is not installed")


def test_a_compiled_function_gives_what_its_python_gives(loops):
    numbers = np.array([12, 9, 10, 7])
    for function in (loops.last_multiple, getattr(loops.last_multiple, "py_func", loops.last_multiple)):
        assert [function(numbers, divisor) for divisor in (3, 5, 8)] == [9, 10, -1]


@needs_numba
def test_it_is_machine_code_with_its_python_beside_it_and_is_cached_on_disk(loops):
    assert loops.last_multiple(np.array([6]), 3) == 6
    assert len(loops.last_multiple.signatures) > 0
    assert loops.last_multiple.py_func.__doc__.startswith("Return the last number")
    assert any(Path(loops.last_multiple.stats.cache_path).glob("loops.last_multiple*.nbi"))


@needs_numba
def test_divisions_by_zero_are_those_of_numpy(loops):
    assert loops.ratio(1.0, 0.0) == np.inf and np.isnan(loops.ratio(0.0, 0.0))


@needs_numba
def test_it_runs_without_the_interpreter_lock(loops):
    numbers = np.zeros(5_000_000, np.int64)
    loops.fill(numbers[:1], 3)
    for _ in range(200):  # other work may hold the cores, so that this thread sees only the end
        numbers[:] = 0
        thread = threading.Thread(target=loops.fill, args=(numbers, 3))
        thread.start()
        seen_at_work = False
        while thread.is_alive() and not seen_at_work:
            seen_at_work = numbers[0] > 0 and numbers[-1] == 0
            time.sleep(0.001)
        thread.join()
        if seen_at_work:
            return
    pytest.fail("the interpreter stood still while the function ran")


def test_without_a_compiler_a_function_stays_as_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)  # as if numba were not installed
    without_numba = load(module.__file__, "compiled_without_numba")

    def loop():
        return 5

    assert not without_numba.HAS_COMPILER and without_numba.compiled(loop) is loop
