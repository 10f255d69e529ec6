"""Parts that do not keep to their interface."""

from dataclasses import replace

from torch.nn.functional import l1_loss

from detector.export.form import ExportForm
from detector.preprocess.histo import histo_representation
from mylab.nets import TinyNet


class Narrow(TinyNet):
    """Maps that lack their last column."""

    def forward(self, x):
        return [level[..., :-1] for level in super().forward(x)]


class Double(TinyNet):
    """Maps of float64."""

    def forward(self, x):
        return [level.double() for level in super().forward(x)]


def unknown_setting(space):
    return [{"model.feature_bas": 3}]


def constant(pred, target, reduction, *, alpha, gamma):
    return 3.0


def refuses(pred, target, reduction, *, alpha, gamma):
    raise ValueError("Expected another shape")


def unreduced(pred, target, beta, reduction):
    return l1_loss(pred, target, reduction="none")


def nothing(parameters, lr, weight_decay):
    return None


NUMBER = 4


def negative(optim, epoch, epochs):
    return -1.0


def tuples(data):
    return replace(histo_representation(data), parameters={"size": (1, 2)})


def fails(*_):
    raise TypeError("no")


def touch(ssd, path, height, width):
    path.touch()
    return {}


UNWRITTEN = ExportForm("model.unwritten", ("float32",), fails, fails)
UNREAD = ExportForm("model.unread", ("float32",), touch, lambda path, info, device: {}["key"])


def one_channel(data):
    def fill(xypt, output_array, *_, **__):
        output_array[:, 1] = 1

    return replace(histo_representation(data), function=fill, channels=1)
