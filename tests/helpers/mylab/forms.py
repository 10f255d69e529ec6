"""Export forms."""

import torch

from detector.export.form import ExportForm


def write(ssd, path, height, width):
    torch.save(ssd, path)
    return {"lab": "mylab"}


def load(path, info, device):
    assert info["lab"] == "mylab"
    return torch.load(path, weights_only=False, map_location=device)


PICKLE = ExportForm("model.pickle", ("float32",), write, load, any_device=True)
