"""Export of a trained detector to TorchScript; the code is in `detector.export`."""

from detector.export.form import INFO_NAME, MODEL_NAME
from detector.export.ssd import SSD, BoxDecoder
from detector.export.write import export_lightning_model, export_ssd

__all__ = ["INFO_NAME", "MODEL_NAME", "SSD", "BoxDecoder", "export_lightning_model", "export_ssd"]
