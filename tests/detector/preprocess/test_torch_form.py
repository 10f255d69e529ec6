import numpy as np
import pytest
import torch
from plain_preprocess import random_events
from representations import CHOICES

from detector.config.extensions import load_object
from detector.config.groups import DataConfig
from detector.preprocess.representation import representation_of
from detector.preprocess.torch_form import EventsToTensor, histo


def tensors(events):
    return tuple(torch.from_numpy(events[name].astype(np.int64)) for name in "xypt")


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("choice", CHOICES)
def test_equals_the_form_for_arrays(choice, shift):
    data = DataConfig(max_incr_per_pixel=4, **choice)
    events = np.random.default_rng(0).permutation(random_events(3000, 8, 12, 1000))
    representation = representation_of(data)
    shape = [3, representation.channels, 8 >> shift, 12 >> shift]
    coded, floats = np.ones(shape, representation.dtype), np.ones(shape, np.float32)
    for output in (coded, floats):
        representation.fill(events, output, 1000, shift)
    function = load_object(representation.torch_form)
    found = function(tensors(events), torch.empty(shape), 1000, shift, 4.0)
    assert np.allclose(found.numpy(), floats, atol=1e-6)
    levels = function(tensors(events), torch.empty_like(torch.from_numpy(coded)), 1000, shift, 4.0).numpy()
    rounding = int(data.preprocess == "event_cube")  # 63.5 is rounded up or down
    assert np.abs(levels.astype(int) - coded.astype(int)).max() <= rounding


@pytest.mark.parametrize("choice", CHOICES)
def test_scripted_equals_eager_late_in_a_recording(choice):
    data = DataConfig(delta_t=300, **choice)
    module = EventsToTensor(data, 2, 4, 6, downsampling_factor=1)
    events = random_events(500, 8, 12, 600)
    representation = representation_of(data)
    expected = np.zeros((2, representation.channels, 4, 6), np.float32)
    representation.fill(events, expected, 600, 1)
    x, y, p, t = tensors(events)
    start = 3_600_000_001
    eager = module(x, y, p, t + start, start)
    assert np.allclose(eager, expected, atol=1e-6)
    assert torch.equal(torch.jit.script(module)(x, y, p, t + start, start), eager)


def test_types_of_readers_and_no_events():
    events = random_events(500, 8, 8, 100)
    kinds = zip("xypt", ("u2", "u2", "i1", "i8"), strict=True)
    columns = tuple(torch.from_numpy(events[name].astype(kind)) for name, kind in kinds)
    out = torch.empty(2, 2, 8, 8)
    assert torch.equal(histo(columns, out, 100), histo(tensors(events), out.clone(), 100))
    assert out.any()
    assert not histo(tuple(column[:0] for column in columns), out, 100).any()


@pytest.mark.parametrize(("x", "y", "p"), [(4, 0, 0), (0, 6, 0), (0, 0, 2), (-1, 0, 0), (0, 0, -1)])
def test_events_outside_are_refused(x, y, p):
    with pytest.raises(ValueError, match=rf"run from \[{x}, {y}, {p}\] to .*, allowed: .* below \[4, 6, 2\]"):
        histo(tuple(torch.tensor([value]) for value in (x, y, p, 0)), torch.empty(1, 2, 3, 2), 10, 1)


def test_memory_that_is_used_again():
    columns = tuple(torch.tensor(column) for column in ([1, 1, 3], [0, 0, 2], [1, 1, 0], [0, 5, 9]))
    out = torch.full((1, 2, 3, 4), 7.0)
    assert histo(columns, out, 10) is out
    assert out.sum() == pytest.approx(3 / 5)


def test_a_representation_without_a_form_in_torch_is_refused():
    data = DataConfig(preprocess="mylab.representations:levels_representation")
    with pytest.raises(
        ValueError, match=r"^data.preprocess: got 'mylab.*, allowed: a representation with a torch_form"
    ):
        EventsToTensor(data, 1, 8, 8)
