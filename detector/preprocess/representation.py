"""What a representation is: how events become the values of frames, and what the values are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detector.config.checks import require
from detector.config.extensions import REPRESENTATIONS
from detector.config.groups import DataConfig
from detector.preprocess.binning import EventColumns

__all__ = ["FLOATS", "Representation", "representation_of"]

FLOATS = ("float16", "float32")
"""Types of frames that hold values as the network takes them."""


@dataclass(frozen=True)
class Representation:
    """How events become frames.

    Args:
        function: takes the positional arguments of `histo`, and `parameters` by keyword
        channels: channels of a frame
        dtype: type of the values in files: uint8, int8, float16 or float32
        divisor: values in files are divided by this before they enter the network; 1 for floats
        counts: bytes are numbers of events (ON minus OFF if `signed`); an event dropout then removes single events
        signed: ON events count against OFF events, so that the other polarity is the other sign
        reversible: frames of time running backwards can be computed from the values: events then have the other
            polarity and micro-bins the other order, which together reverse the order of the channels
        parameters: settings of `DataConfig` that `function` takes by keyword, stored with datasets and exports
        torch_form: import path of the same function of tensors, see `detector.preprocess.torch_form`; "" without one
    """

    function: Callable[..., None]
    channels: int
    dtype: str
    divisor: float
    counts: bool = False
    signed: bool = False
    reversible: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    torch_form: str = ""

    def fill(
        self, xypt: np.ndarray | EventColumns, output_array: np.ndarray, duration: int, downsampling_factor: int = 0
    ) -> None:
        """Write events into (T, C, H, W) frames that cover `duration` microseconds; see `histo`."""
        self.function(xypt, output_array, duration, downsampling_factor, **self.parameters)

    def empty(self, *shape: int) -> np.ndarray:
        """Uninitialised frames of the stored type."""
        return np.empty(shape, self.dtype)


def representation_of(data: DataConfig) -> Representation:
    """The representation that `data.preprocess` names, with the settings of `data` filled in.

    Raises:
        ValueError: it cannot be imported, is none, or a setting does not fit it.
    """
    found = REPRESENTATIONS.make(data.preprocess, data)
    allowed = "a function of DataConfig that returns a detector.preprocess.representation.Representation"
    require(isinstance(found, Representation), "data.preprocess", data.preprocess, allowed)
    require(found.dtype in ("uint8", "int8", *FLOATS), "dtype", found.dtype, "uint8, int8, float16, float32")
    allowed = f"0 with data.preprocess {data.preprocess}, which cannot run backwards in time"
    require(data.reversal == 0 or found.reversible, "data.reversal", data.reversal, allowed)
    return found
