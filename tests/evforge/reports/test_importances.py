import pytest
from study_trials import study_of, trial

from evforge.reports.importances import measure_importances

DOMAINS = {"x": {"uniform": [0, 1]}, "kind": {"choice": ["a", "b"]}, "fixed": {"choice": [1]}}
ROWS = [{"x": x, "kind": kind, "fixed": 1} for x in (0.1, 0.4, 0.6, 0.9) for kind in ("a", "b")]


def trials_of(measure):
    return [trial("", [measure(row)], values=row) for row in ROWS]


def test_the_setting_that_decides_has_the_highest_importance():
    found = measure_importances(
        study_of(*trials_of(lambda row: row["x"] * 5 + (row["kind"] == "b") * 0.1), domains=DOMAINS)
    )
    assert list(found) == ["x", "kind"] and sum(one.share for one in found.values()) == pytest.approx(1)
    assert found["x"].share > 0.9
    assert all(0 <= one.low <= one.share <= one.high <= 1 for one in found.values())
    assert 0 < found["x"].high - found["x"].low < 0.5


def test_equal_settings_have_wide_intervals():
    noise = dict(zip(map(repr, ROWS), (0.3, 0.1, 0.45, 0.2, 0.1, 0.4, 0.15, 0.35), strict=True))
    found = measure_importances(study_of(*trials_of(lambda row: noise[repr(row)]), domains=DOMAINS))
    assert found["x"].low < found["kind"].high and found["kind"].high - found["kind"].low > 0.1


def test_too_few_trials_have_no_importances():
    trials = trials_of(lambda row: row["x"])
    assert measure_importances(study_of(*trials[:3], domains=DOMAINS)) == {}
    assert measure_importances(study_of(*trials, domains={"fixed": DOMAINS["fixed"]})) == {}


def test_equal_values_have_no_importances():
    with pytest.raises(RuntimeError):
        measure_importances(study_of(*trials_of(lambda row: 0.5), domains=DOMAINS))
