import dataclasses

import numpy as np
import pytest

from detector.data.check.evidence import Bars, Curves, Evidence, PixelMap

FIGURES = [
    Curves("score", "offset (s)", "score", {"boxes": (np.arange(3), np.arange(3))}),
    PixelMap("hot pixels", None, (60, 80)),
    Bars("polarity", "events", {"ON": 3.0, "OFF": 1.0}),
]


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_evidence_and_cannot_be_changed(figure):
    assert isinstance(figure, Evidence)
    with pytest.raises(dataclasses.FrozenInstanceError):
        figure.title = "other"


def test_figures_have_no_marks_unless_given():
    curves, pixels, bars = FIGURES
    assert (curves.marks, pixels.boxes, pixels.points, bars.marked) == ({}, {}, {}, ())
    assert pixels.boxes is not pixels.points and PixelMap("other", None, (6, 8)).boxes is not pixels.boxes


def test_marks_are_kept_in_the_order_of_their_names():
    curves = Curves("score", "offset (s)", "score", {}, {"stored": 0.0, "best": -0.3})
    assert list(curves.marks.items()) == [("stored", 0.0), ("best", -0.3)]
    pixels = PixelMap("hot pixels", np.ones((6, 8)), (60, 80), points={"hot": np.array([[7, 2]])})
    assert (list(pixels.boxes), pixels.points["hot"].tolist()) == ([], [[7, 2]])
    assert Bars("polarity", "events", {"ON": 3.0}, ("ON",)).marked == ("ON",)
