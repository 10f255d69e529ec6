"""Export: a trained detector as a TorchScript file that runs without Python."""

from pathlib import Path

from evlab.evaluate import find_checkpoint, load_model

__all__ = ["export"]


def export(checkpoint: str | Path, output: str | Path, score_thresh: float = 0.4) -> Path:
    """Write `model.ptjit` and `info_ssd_jit.json`, and run the cases of `detector.jitting_test` on the file.

    Args:
        checkpoint: checkpoint, or folder of a run or study.
        output: folder to write to.
        score_thresh: score from which users of the file should show a box.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is no checkpoint of a detector, or the exported file fails a check.
    """
    from detector.jitting import export_lightning_model
    from evlab.registry import check_export

    if not 0 <= score_thresh <= 1:
        raise ValueError(f"score_thresh: got {score_thresh}, allowed: a number from 0 to 1")
    model = load_model(find_checkpoint(checkpoint)).eval()
    export_lightning_model(model, output, model.hparams["nms_thresh"], score_thresh)
    check_export(Path(output))
    return Path(output)
