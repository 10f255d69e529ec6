import re
import shutil
import sys

import numpy as np
import pytest
import torch

from detector.visualization import video
from detector.visualization.video import FILMS, gif_film, mp4_film

STAND_IN = """#!{python}
import sys
from pathlib import Path
folder = Path(__file__).parent
(folder / "arguments").write_text(" ".join(sys.argv[1:]))
(folder / "pictures").write_bytes(sys.stdin.buffer.read())
Path(sys.argv[-1]).write_bytes(b"a film")
{then}
"""


def pictures(count=3, height=40, width=60):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator) for _ in range(count)]


def write(film, images):
    with film as add:
        for image in images:
            add(image)


def durations(path):
    from PIL import Image

    found = []
    with Image.open(path) as film:
        for number in range(film.n_frames):
            film.seek(number)
            found.append(film.info["duration"])
        assert film.info["loop"] == 0
    return found


def test_gif_holds_every_picture(tmp_path):
    from PIL import Image

    shades = [torch.full((3, 40, 60), 80 * k, dtype=torch.uint8) for k in (1, 1, 2)]
    write(gif_film(tmp_path / "a.gif", 50_000), shades)
    assert durations(tmp_path / "a.gif") == [50, 50, 50]
    with Image.open(tmp_path / "a.gif") as film:
        for number, image in enumerate(shades):
            film.seek(number)
            np.testing.assert_array_equal(np.asarray(film.convert("RGB")), image.permute(1, 2, 0).numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def test_gif_keeps_time_in_hundredths_of_a_second(tmp_path):
    write(gif_film(tmp_path / "a.gif", 33_333), pictures(6))
    assert durations(tmp_path / "a.gif") == [30, 30, 30, 40, 30, 30]


def test_gif_holds_no_picture_in_memory(tmp_path):
    sizes = []
    with gif_film(tmp_path / "a.gif", 50_000) as add:
        for image in pictures(4, 100, 100):
            add(image)
            (part,) = tmp_path.glob("a.gif.*.part")
            sizes.append(part.stat().st_size)
    assert sizes[3] - sizes[0] > 2 * 100 * 100  # noise hardly becomes smaller: two of three are in the file already


@pytest.mark.parametrize("kind", FILMS)
def test_a_film_of_nothing_or_broken_off_leaves_nothing(tmp_path, monkeypatch, kind):
    folder = stand_in(tmp_path / "bin", monkeypatch)
    (tmp_path / "films").mkdir()
    with pytest.raises(ValueError, match="images: got none for .*allowed: at least one picture"):
        write(FILMS[kind](tmp_path / "films" / f"a{kind}", 50_000), [])
    with pytest.raises(KeyError), FILMS[kind](tmp_path / "films" / f"a{kind}", 50_000) as add:
        add(pictures()[0])
        raise KeyError
    assert list((tmp_path / "films").iterdir()) == []
    assert folder.is_dir()


def stand_in(folder, monkeypatch, then=""):
    """A program named ffmpeg that keeps what it is given."""
    folder.mkdir()
    (folder / "ffmpeg").write_text(STAND_IN.format(python=sys.executable, then=then))
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    return folder


def test_ffmpeg_is_given_every_picture(tmp_path, monkeypatch):
    folder, images = stand_in(tmp_path / "bin", monkeypatch), pictures(3, 41, 61)
    write(mp4_film(tmp_path / "a.mp4", 40_000), images)
    assert (tmp_path / "a.mp4").read_bytes() == b"a film"
    arguments = (folder / "arguments").read_text()
    assert "-f rawvideo -pix_fmt rgb24 -s 60x40 -r 1000000/40000 -i pipe:0" in arguments
    assert re.search(rf"-pix_fmt yuv420p -f mp4 -y {tmp_path}/a\.mp4\.[0-9a-f]+\.part$", arguments)
    given = np.frombuffer((folder / "pictures").read_bytes(), np.uint8).reshape(3, 40, 60, 3)
    np.testing.assert_array_equal(given, torch.stack(images).permute(0, 2, 3, 1)[:, :40, :60].numpy())


@pytest.mark.parametrize("then", ["sys.exit('no such codec')", "sys.stdin.buffer.close(); sys.exit('no such codec')"])
def test_what_ffmpeg_says(tmp_path, monkeypatch, then):
    stand_in(tmp_path / "bin", monkeypatch, then)
    with pytest.raises(OSError, match="a.mp4: ffmpeg: no such codec"):
        write(mp4_film(tmp_path / "a.mp4", 40_000), pictures(100))
    assert not list(tmp_path.glob("a.mp4*"))


def test_nothing_that_writes_mp4(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"a.mp4: MP4 needs the package av \(pip install av\) or the program ffmpeg"):
        mp4_film(tmp_path / "a.mp4", 50_000)


@pytest.mark.parametrize("way", ["av", "ffmpeg"])
def test_mp4_can_be_seen(tmp_path, monkeypatch, way):
    av = pytest.importorskip("av")
    if way == "ffmpeg" and shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not there")
    if way == "ffmpeg":
        monkeypatch.setattr(video, "find_spec", lambda name: None)
    shade = torch.full((3, 41, 61), 200, dtype=torch.uint8)
    write(mp4_film(tmp_path / "a.mp4", 40_000), [shade] * 7)
    with av.open(str(tmp_path / "a.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert film.streams.video[0].average_rate == 25
    assert np.abs(np.array(frames).astype(int) - 200).max() < 5
    assert np.array(frames).shape == (7, 40, 60, 3)
