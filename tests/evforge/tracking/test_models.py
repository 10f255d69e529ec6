import pytest
from registered_model import NAME, register_version

from evforge.tracking.models import fetch


def test_fetch(export, tracker, checks_pass, tmp_path):
    register_version(tracker, export)
    for version in (1, "1", "candidate"):
        folder = fetch(tracker, NAME, version, tmp_path / f"{type(version)}{version}")
        assert (folder / "model.ptjit").read_bytes() == (export / "model.ptjit").read_bytes()
        assert (folder / "info_ssd_jit.json").is_file()
    for unknown in (2, "champion"):
        with pytest.raises(ValueError, match=f"version: got {unknown!r} of model 'street'"):
            fetch(tracker, NAME, unknown, tmp_path / "other")
