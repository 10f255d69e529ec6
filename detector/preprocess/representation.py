"""Description of a representation: the function that computes frames from events, and the values of the frames."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detector.config.checks import require, require_choice
from detector.config.extensions import REPRESENTATIONS
from detector.config.groups import DataConfig
from detector.preprocess.binning import FLOATS, EventColumns

__all__ = ["Representation", "representation_of"]


@dataclass(frozen=True)
class Representation:
    """How events become frames.

    Args:
        function: function with the positional arguments of `histo`, called with `parameters` as keyword arguments
        channels: channels of a frame
        dtype: type of the values in files: uint8, int8, float16 or float32
        divisor: values in files are divided by this before they enter the network; 1 for floats
        counts: bytes are numbers of events (ON minus OFF if `signed`); an event dropout then removes single events
        signed: ON events are positive and OFF events negative values of the same channel
        reversible: the frames of a recording that runs backwards in time can be computed from the values. This swaps
            the polarities and reverses the order of micro-bins, which together reverse the order of the channels
        parameters: settings of `DataConfig` that are keyword arguments of `function`, stored with datasets and exports
        torch_form: import path of the same function of tensors, see `detector.preprocess.torch_form`; "" if there is
            no such function
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
    """The representation `data.preprocess` with the settings of `data`.

    Raises:
        ValueError: it cannot be imported, is not a `Representation`, or a setting is not allowed with it.
    """
    found = REPRESENTATIONS.make(data.preprocess, data)
    allowed = "a function of DataConfig that returns a detector.preprocess.representation.Representation"
    require(isinstance(found, Representation), "data.preprocess", data.preprocess, allowed)
    require_choice(f"data.preprocess {data.preprocess}: dtype", found.dtype, ("uint8", "int8", *FLOATS))
    allowed = f"0 with data.preprocess {data.preprocess}, which is not reversible in time"
    require(data.reversal == 0 or found.reversible, "data.reversal", data.reversal, allowed)
    return found
