from pathlib import Path

import pytest

from detector.events import open_events
from detector.events.headers.sensor_size import sensor_size

PATH = Path("a.raw")


@pytest.mark.parametrize(
    ("found", "height", "width", "expected"),
    [
        ((480, 640), None, None, (480, 640)),
        ((480, 640), 480, 640, (480, 640)),
        ((480, 640), None, 640, (480, 640)),
        (None, 48, 64, (48, 64)),
        (None, 1, 65536, (1, 65536)),
    ],
)
def test_the_size_is_that_of_the_file_or_else_that_of_the_caller(found, height, width, expected):
    assert sensor_size(PATH, found, height, width) == expected


@pytest.mark.parametrize(
    ("found", "height", "width", "message"),
    [
        (None, None, None, "the header contains no sensor size, give .*: --sensor_height N --sensor_width N"),
        (None, 480, None, "the header contains no sensor size"),
        (None, None, 640, "the header contains no sensor size"),
        ((480, 640), 640, 480, "height, width: got 640, 480, allowed: those of the header, 480, 640"),
        ((480, 640), None, 641, "height, width: got None, 641, allowed: those of the header, 480, 640"),
        (None, 0, 5, "height, width: got 0, 5, allowed: at least 1, at most 65536"),
        (None, 5, 65537, "height, width: got 5, 65537, allowed: at least 1, at most 65536"),
        ((0, 640), None, None, "height, width: got 0, 640, allowed: at least 1"),
    ],
)
def test_unknown_contradicting_and_impossible_sizes_are_refused(found, height, width, message):
    with pytest.raises(ValueError, match=rf"^a.raw: {message}"):
        sensor_size(PATH, found, height, width)


@pytest.mark.parametrize("side", ["0", "65537", "99999999999999999999"])
def test_impossible_sizes_in_a_header(tmp_path, side):
    (tmp_path / "a").write_bytes(f"% evt 2.0\n% height {side}\n% width 640\n% end\n".encode())
    with pytest.raises(ValueError, match=r"a: (height, width: got|the header contains no sensor size)"):
        open_events(tmp_path / "a")
