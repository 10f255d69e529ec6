"""Description of a representation: a function that computes frames from events, and the format of these frames."""

import json
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
    """Describes how frames are computed from events, and what the values of the frames are.

    Args:
        function: function with the positional arguments of `histo`, called with `parameters` as keyword arguments
        channels: number of channels of a frame
        dtype: dtype of the values in files: uint8, int8, float16 or float32
        divisor: values in files are divided by this number before they enter the network; 1 for floats
        counts: whether byte values are numbers of events (ON minus OFF if `signed`). Event dropout then removes single
            events
        signed: whether ON events are positive and OFF events negative values of the same channel
        reversible: whether frames can be converted to the frames of a recording that runs backwards in time. The
            conversion swaps the polarities and reverses the micro-bins, which together reverse the order of the
            channels
        parameters: settings of `DataConfig` that are keyword arguments of `function`. They are stored with datasets and
            exports
        torch_form: import path of a function that computes the same frames from tensors, such as
            `detector.preprocess.torch_form:histo`; "" if there is no such function
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
        """Compute frames from events.

        Args:
            xypt: `EventCD` array or columns x, y, p, t, with t in microseconds from the start of the first frame.
            output_array: (T, C, H, W) frames, overwritten.
            duration: duration of all T frames in microseconds. Events outside this time are dropped.
            downsampling_factor: exponent k; an output pixel covers 2^k x 2^k sensor pixels.
        """
        self.function(xypt, output_array, duration, downsampling_factor, **self.parameters)

    def empty(self, *shape: int) -> np.ndarray:
        """Return an uninitialised array of this shape with the dtype of the values in files."""
        return np.empty(shape, self.dtype)


def representation_of(data: DataConfig) -> Representation:
    """Return the representation that `data.preprocess` names, with the settings in `data`.

    Raises:
        ValueError: the representation cannot be imported, is not a `Representation`, or does not allow a setting.
    """
    found = REPRESENTATIONS.make(data.preprocess, data)
    allowed = "a function of DataConfig that returns a detector.preprocess.representation.Representation"
    require(isinstance(found, Representation), "data.preprocess", data.preprocess, allowed)
    require_choice(f"data.preprocess {data.preprocess}: dtype", found.dtype, ("uint8", "int8", *FLOATS))
    allowed = "a dict of numbers, texts, lists and None, which JSON can store"
    require(_is_json(found.parameters), f"data.preprocess {data.preprocess}: parameters", found.parameters, allowed)
    allowed = f"0 with data.preprocess {data.preprocess}, which is not reversible in time"
    require(data.reversal == 0 or found.reversible, "data.reversal", data.reversal, allowed)
    return found


def _is_json(parameters: Mapping[str, Any]) -> bool:
    """Return True if the parameters are unchanged after they are stored as JSON and read again."""
    try:
        return bool(json.loads(json.dumps(dict(parameters))) == dict(parameters))
    except TypeError:
        return False
