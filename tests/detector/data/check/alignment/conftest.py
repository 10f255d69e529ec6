import pytest

from detector.data.check.alignment.activity import ActivityBuilder


@pytest.fixture
def activity(scene):
    builder = ActivityBuilder((80, 120), (0, 12_000_000))
    builder.add_events(tuple(scene[0][name] for name in "xypt"))
    return builder.build()
