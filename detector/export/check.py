"""Check of a detector that is exported to TorchScript."""

from pathlib import Path
from typing import Any

from detector.export.bundle import find_exported
from detector.export.cases import TESTCASES
from detector.export.form import MODEL_NAME

__all__ = ["check_export"]


def check_export(model_dir: Path) -> dict[str, Any]:
    """Check that the files of an exported detector belong together and pass the tests of `detector.jitting_test`.

    Args:
        model_dir: folder with `model.ptjit` and `info_ssd_jit.json`.

    Returns:
        The content of `info_ssd_jit.json`.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the files do not belong together, or a test failed.
    """
    model, info = find_exported(Path(model_dir) / MODEL_NAME)
    _run_cases(model)
    return info


def _run_cases(model: Path) -> None:
    for name, case in TESTCASES.items():
        try:
            case(str(model), 120, 160)
        except Exception as error:  # the cases assert; TorchScript raises errors of many types
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"{model}: the check '{name}' failed: {reason}") from error
