"""Tables of extension points, one per kind: the names of built-in objects; others are given by import path.

Every entry is the import path of an object, `package.module:Name`, and is imported at its first use. An import path of
an object outside the product is accepted everywhere that a name is accepted.
"""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from detector.config.checks import require

__all__ = [
    "BOX_LOSSES",
    "CLASS_LOSSES",
    "EVENT_FORMATS",
    "EXPORT_FORMS",
    "FEATURE_EXTRACTORS",
    "IMPORT_PATH",
    "LABEL_FORMATS",
    "LR_SCHEDULES",
    "OPTIMIZERS",
    "REPRESENTATIONS",
    "TABLES",
    "Table",
    "load_object",
]

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def load_object(path: str) -> Any:
    """The object with an import path `package.module:Name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


class Table(Mapping[str, Any]):
    """Objects of one kind by name, imported at their first use.

    Args:
        key: setting or argument with the name, used in error messages
        entries: import path of each name
        extra: further names that the setting accepts and that have no object, such as "auto"
    """

    def __init__(self, key: str, entries: Mapping[str, str], extra: tuple[str, ...] = ()) -> None:
        self.key, self.extra = key, extra
        self._entries = dict(entries)
        self._used: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        """The object with this name or import path.

        Raises:
            ValueError: there is no such name, or the object cannot be imported.
        """
        self.check(name)
        path = self._entries.get(name, name)
        try:
            found = load_object(path)
        except (Exception, SystemExit) as error:  # a module outside the product may raise any error
            where = "in an installed module, or one in the working folder or in a folder of PYTHONPATH"
            raise self._error(name, "imported", error, f"{self.allowed}, {where}") from error
        self._used |= {name} - self._entries.keys()
        return found

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call the object with this name or import path.

        Raises:
            ValueError: as for `table[name]`, or the call fails.
        """
        function = self[name]
        try:
            return function(*arguments, **options)
        except ValueError:
            raise
        except Exception as error:
            allowed = "an object with the interface of CONTRIBUTING, Add your own"
            raise self._error(name, "made", error, allowed) from error

    def _error(self, name: str, action: str, error: BaseException, allowed: str) -> ValueError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return ValueError(f"{self.key}: got {name!r}, which cannot be {action} ({reason}), allowed: {allowed}")

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def allowed(self) -> str:
        """The accepted names as text; objects outside the product are included after their first use."""
        names = ", ".join((*self.extra, *self._entries, *sorted(self._used)))
        return f"{names}, or an import path such as mylab.module:Name"

    def check(self, name: str) -> None:
        """Raise a ValueError unless `name` is an entry, an extra name or has the form of an import path."""
        known = isinstance(name, str) and (name in self or name in self.extra or IMPORT_PATH.fullmatch(name))
        require(bool(known), self.key, name, self.allowed)


REPRESENTATIONS = Table(
    "data.preprocess",
    {
        "histo": "detector.preprocess.histo:histo_representation",
        "stacked_histo": "detector.preprocess.histo:stacked_histo_representation",
        "diff": "detector.preprocess.diff:diff_representation",
        "timesurface": "detector.preprocess.timesurface:timesurface_representation",
        "multi_channel_timesurface": "detector.preprocess.timesurface:multi_channel_representation",
        "event_cube": "detector.preprocess.event_cube:event_cube_representation",
    },
)
"""How events become frames: `f(data: DataConfig) -> Representation`, see `detector.preprocess.representation`."""

FEATURE_EXTRACTORS = Table(
    "model.feature_extractor",
    {name: f"detector.feature_extractors:{name}" for name in ("Vanilla", "Vanilla_VGG", "Vanilla_VGGRU")},
)
"""Backbones: `f(cin, base, cout, *, first_stride, num_levels)`, see `detector.feature_extractors.FeatureExtractor`."""

CLASS_LOSSES = Table("loss.cls_loss_func", {"softmax_focal_loss": "detector.losses:softmax_focal_loss"})
"""Classification losses: `f(pred (N, A, K + 1), target (N, A), reduction, *, alpha, gamma) -> Tensor`."""

BOX_LOSSES = Table("loss.box_loss_func", {"smooth_l1_loss": "detector.losses:smooth_l1_loss"})
"""Box losses of the offsets of positive anchors: `f(pred (P, 4), target (P, 4), beta, reduction) -> Tensor`."""

OPTIMIZERS = Table("optim.optimizer", {"adam": "torch.optim:Adam", "adamw": "torch.optim:AdamW"})
"""Optimizers: `f(parameters, lr=..., weight_decay=...) -> torch.optim.Optimizer`, so torch's own have this form."""

LR_SCHEDULES = Table(
    "optim.lr_scheduler",
    {
        name: f"detector.optim.learning_rate:{function}"
        for name, function in (("exponential", "exponential"), ("cosine", "cosine"), ("none", "constant"))
    },
)
"""Learning rate as a share of the peak: `f(optim: OptimConfig, epoch: float, epochs: float) -> float`."""

EVENT_FORMATS = Table(
    "data.event_format",
    {
        "DAT": "detector.events.prophesee.dat:DatReader",
        "EVT2": "detector.events.prophesee.evt2:Evt2Reader",
        "EVT2.1": "detector.events.prophesee.evt21:Evt21Reader",
        "EVT3": "detector.events.prophesee.evt3:Evt3Reader",
        "HDF5": "detector.events.containers.hdf5:Hdf5Reader",
        "NPY": "detector.events.containers.tabular:NpyReader",
        "CSV": "detector.events.containers.tabular:CsvReader",
    },
    extra=("auto",),
)
"""Readers of recordings: `f(path: Path, height: int | None, width: int | None) -> EventReader`, see `ArrayReader` in
`detector.events`; "auto" finds the format by the content."""

LABEL_FORMATS = Table("data.label_format", {"npy": "detector.labels.npy:NPY"})
"""Formats of label files: a `detector.labels.LabelFormat`."""

EXPORT_FORMS = Table(
    "form",
    {
        "torchscript": "detector.export.form:TORCHSCRIPT",
        "torchscript-frozen": "detector.export.backends.torchscript:FROZEN",
        "torchscript-cpu": "detector.export.backends.torchscript:PACKED",
        "torchscript-int8": "detector.export.backends.torchscript:QUANTIZED",
        "torch-export": "detector.export.backends.torch_export:TORCH_EXPORT",
        "aotinductor": "detector.export.backends.aotinductor:AOTINDUCTOR",
        "onnx": "detector.export.backends.onnx:ONNX",
    },
)
"""Kinds of exported files: a `detector.export.form.ExportForm`."""

TABLES = {
    table.key: table
    for table in (
        REPRESENTATIONS,
        FEATURE_EXTRACTORS,
        CLASS_LOSSES,
        BOX_LOSSES,
        OPTIMIZERS,
        LR_SCHEDULES,
        EVENT_FORMATS,
        LABEL_FORMATS,
    )
}
"""Tables of settings by their keys."""
