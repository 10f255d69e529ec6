import pytest

from detector.labels.formats.fred import FRED


def read(tmp_path, text):
    (tmp_path / "coordinates.txt").write_text(text)
    return FRED.read(tmp_path / "coordinates.txt")


def test_coordinates(tmp_path):
    found = read(tmp_path, "0.0: 673.0, 315.0, 710.0, 340.5\r\n\r\n0.033333: 600, 300, 650, 320\r\n")
    assert found.boxes.dtype.names == ("t", "x", "y", "w", "h", "class_id")
    assert found.boxes.tolist() == [(0.0, 673, 315, 37, 25.5, 0), (0.033333, 600, 300, 50, 20, 0)]
    assert (found.names, found.time_unit, found.numbered) == ({0: "drone"}, "s", False)


def test_tracks(tmp_path):
    found = read(tmp_path, "0.033333: 1, 2, 11, 22, 4\n0.066666: 1, 2, 11, 22, 5, more\n")
    assert found.boxes["track_id"].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1: 1, 2, 3\n", r"line 1: got '0.1: 1, 2, 3', allowed: time: x1, y1, x2, y2, and optionally a track id"),
        ("0.1, 1, 2, 3, 4\n", r"line 1: got '0.1, 1, 2, 3, 4', allowed: time"),
        ("\n12:30: 1, 2, 3, 4\n", r"line 2: got '30: 1', allowed: a number"),
        ("0.1: 1, 2, 3, 4, drone\n", r"line 1: got 'drone', allowed: a number"),
    ],
)
def test_errors(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
