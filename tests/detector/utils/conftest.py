import fsspec
import pytest


@pytest.fixture
def memory():
    """A file system that fsspec reaches, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
