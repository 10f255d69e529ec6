"""Extension points: kinds of objects, such as backbones and losses, that a setting selects by name.

Each kind has a table from the names of the built-in objects to import paths `package.module:Name`. An object is
imported at its first use. Instead of a name, a setting may contain the import path of an object outside EvForge.
"""

import inspect
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
    "INTERFACE",
    "LABEL_FORMATS",
    "LAYOUTS",
    "LR_SCHEDULES",
    "OPTIMIZERS",
    "REPRESENTATIONS",
    "TABLES",
    "Table",
    "load_object",
]

INTERFACE = 'a function or class, see "Add your own" in .github/CONTRIBUTING.md'
"""What an object of a table must be, in error messages."""

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def load_object(path: str) -> Any:
    """Import the object with the import path `package.module:Name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


class Table(Mapping[str, Any]):
    """Mapping from names to objects of one kind, which are imported at their first use.

    Args:
        key: setting or argument that contains a name from this table, used in error messages
        entries: dict from names to import paths
        extra: further names that the setting accepts but that have no object, such as "auto"
    """

    def __init__(self, key: str, entries: Mapping[str, str], extra: tuple[str, ...] = ()) -> None:
        self.key, self.extra = key, extra
        self._entries = dict(entries)
        self._used: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        """Import the object with the name or import path `name`, and return it.

        Raises:
            ValueError: the name is unknown, or the object cannot be imported.
        """
        self.check(name)
        path = self._entries.get(name, name)
        try:
            found = load_object(path)
        except (Exception, SystemExit) as error:  # a module outside EvForge may raise any error
            where = "in an installed module, or one in the working folder or in a folder of PYTHONPATH"
            raise self.error(name, "imported", error, f"{self.allowed}, {where}") from error
        self._used |= {name} - self._entries.keys()
        return found

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call the object with the name or import path `name`, passing the other arguments, and return the result.

        Raises:
            ValueError: the name is unknown, the object cannot be imported, or the call fails.
        """
        function = self[name]
        try:
            return function(*arguments, **options)
        except Exception as error:
            if isinstance(error, ValueError) and (name in self or str(error).startswith(self.key)):
                raise
            raise self.error(name, "made", error, INTERFACE) from error

    def make_from(self, name: str, offered: Mapping[str, Any]) -> Any:
        """Call an object with keyword arguments, of which it may accept only some, and return the result.

        Args:
            name: name or import path of the object.
            offered: dict from names to values. Names that are not in the signature of the object are not passed.

        Raises:
            ValueError: the object is not a function or class, or `make` raises this error.
        """
        function = self[name]
        try:
            names = inspect.signature(function).parameters
        except (TypeError, ValueError) as error:
            raise self.error(name, "called", error, INTERFACE) from error
        return self.make(name, **{key: value for key, value in offered.items() if key in names})

    def error(self, name: str, action: str, error: BaseException, allowed: str) -> ValueError:
        """Return the ValueError that reports what failed with an object of this table.

        Args:
            name: name or import path of the object.
            action: the action that failed, as a participle such as "imported".
            error: the error that occurred.
            allowed: what is allowed instead.
        """
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
        """The accepted names as text. Import paths of objects outside EvForge are included after their first use."""
        names = ", ".join((*self.extra, *self._entries, *sorted(self._used)))
        return f"{names}, or an import path such as mylab.module:Name"

    def check(self, name: str) -> None:
        """Raise a ValueError unless `name` is an entry, an extra name or a text in the form of an import path."""
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
"""Representations of events as frames: `f(data: DataConfig) -> Representation`, see `Representation`."""

FEATURE_EXTRACTORS = Table(
    "model.feature_extractor",
    {name: f"detector.feature_extractors:{name}" for name in ("Vanilla", "Vanilla_VGG", "Vanilla_VGGRU")},
)
"""Backbones: `f(cin, base, cout, *, first_stride, num_levels)`, see `detector.feature_extractors.FeatureExtractor`."""

CLASS_LOSSES = Table("loss.cls_loss_func", {"softmax_focal_loss": "detector.losses:softmax_focal_loss"})
"""Classification losses: `f(pred (N, A, K + 1), target (N, A), reduction, *, alpha, gamma) -> Tensor`."""

BOX_LOSSES = Table("loss.box_loss_func", {"smooth_l1_loss": "detector.losses:smooth_l1_loss"})
"""Box losses: `f(pred, target, beta, reduction) -> Tensor` for the (P, 4) offsets of positive anchors."""

OPTIMIZERS = Table("optim.optimizer", {"adam": "torch.optim:Adam", "adamw": "torch.optim:AdamW"})
"""Optimizers: `f(parameters, lr=..., weight_decay=...) -> torch.optim.Optimizer`, as in `torch.optim`."""

LR_SCHEDULES = Table(
    "optim.lr_scheduler",
    {
        name: f"detector.optim.learning_rate:{function}"
        for name, function in (("exponential", "exponential"), ("cosine", "cosine"), ("none", "constant"))
    },
)
"""Learning rate schedules: `f(optim: OptimConfig, epoch: float, epochs: float) -> float`.

The result is the learning rate divided by its peak; see `detector.optim.learning_rate.rate_factor`.
"""

EVENT_FORMATS = Table(
    "data.event_format",
    {
        "DAT": "detector.events.prophesee.dat:DatReader",
        "EVT2": "detector.events.prophesee.evt2:Evt2Reader",
        "EVT2.1": "detector.events.prophesee.evt21:Evt21Reader",
        "EVT3": "detector.events.prophesee.evt3:Evt3Reader",
        "HDF5": "detector.events.containers.hdf5:Hdf5Reader",
        "NPY": "detector.events.containers.npy_array:NpyReader",
        "CSV": "detector.events.containers.csv_table:CsvReader",
        "NPZ": "detector.events.containers.npz_archive:NpzReader",
        "AEDAT4": "detector.events.packets.aedat4:Aedat4Reader",
    },
    extra=("auto",),
)
"""Readers of recordings: `f(path: Path, height: int | None, width: int | None) -> EventReader`.

The interface is described at `ArrayReader` in `detector.events`. "auto" detects the format from the content of a file.
"""

LABEL_FORMATS = Table(
    "data.label_format",
    {
        "npy": "detector.labels.formats.npy:NPY",
        "coco": "detector.labels.formats.coco:COCO",
        "yolo": "detector.labels.formats.yolo:YOLO",
        "voc": "detector.labels.formats.voc:VOC",
        "mot": "detector.labels.formats.mot:MOT",
        "csv": "detector.labels.formats.csv:CSV",
        "dsec_det": "detector.labels.formats.dsec_det:DSEC_DET",
        "fred": "detector.labels.formats.fred:FRED",
    },
    extra=("auto",),
)
"""Formats of label files. Each object is a `detector.labels.LabelFormat`."""

LAYOUTS = Table(
    "layout",
    {
        name: f"detector.data.layouts.{path}"
        for name, path in {
            "gen1": "prophesee:GEN1",
            "1mpx": "prophesee:ONE_MEGAPIXEL",
            "dsec_det": "dsec_det:DSEC_DET",
            "pedro": "pedro:PEDRO",
            "etram": "etram:ETRAM",
            "etram_8": "etram:ETRAM_EIGHT",
            "fred": "fred:FRED",
            "mevdt": "mevdt:MEVDT",
            "rvt_gen1": "rvt:RVT_GEN1",
            "rvt_1mpx": "rvt:RVT_ONE_MEGAPIXEL",
        }.items()
    },
)
"""Layouts of public datasets. Each object is a `detector.data.layouts.Layout`."""

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
"""Kinds of exported files. Each object is a `detector.export.form.ExportForm`."""

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
"""Dict from keys of settings, such as "data.preprocess", to the tables of these settings."""
