import sys

import numpy as np
import pytest
import torch

from detector.visualization.video import VIDEOS, gif_video, mp4_video


def make_images(count=3, height=40, width=60):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator) for _ in range(count)]


def write(video, images):
    with video as add:
        for image in images:
            add(image)


def durations(path):
    from PIL import Image

    found = []
    with Image.open(path) as video:
        for number in range(video.n_frames):
            video.seek(number)
            found.append(video.info["duration"])
        assert video.info["loop"] == 0
    return found


def test_gif_holds_every_image(tmp_path):
    from PIL import Image

    shades = [torch.full((3, 40, 60), 80 * k, dtype=torch.uint8) for k in (1, 1, 2)]
    write(gif_video(tmp_path / "a.gif", 50_000), shades)
    assert durations(tmp_path / "a.gif") == [50, 50, 50]
    with Image.open(tmp_path / "a.gif") as video:
        for number, image in enumerate(shades):
            video.seek(number)
            np.testing.assert_array_equal(np.asarray(video.convert("RGB")), image.permute(1, 2, 0).numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
    assert (tmp_path / "a.gif").read_bytes().endswith(b"\0;"), "the end of the last image and of the file"


def test_gif_keeps_time_in_hundredths_of_a_second(tmp_path):
    write(gif_video(tmp_path / "a.gif", 33_333), make_images(6))
    assert durations(tmp_path / "a.gif") == [30, 30, 30, 40, 30, 30]


def test_gif_holds_no_image_in_memory(tmp_path):
    sizes = []
    with gif_video(tmp_path / "a.gif", 50_000) as add:
        for image in make_images(4, 100, 100):
            add(image)
            (part,) = tmp_path.glob("a.gif.*.part")
            sizes.append(part.stat().st_size)
    assert sizes[3] - sizes[0] > 2 * 100 * 100  # noise hardly becomes smaller: two of three are in the file already


@pytest.mark.parametrize("kind", VIDEOS)
def test_a_video_that_is_empty_or_interrupted_leaves_no_file(tmp_path, kind):
    if kind == ".mp4":
        pytest.importorskip("av")
    with pytest.raises(ValueError, match="images: got none for .*allowed: at least one image"):
        write(VIDEOS[kind](tmp_path / f"a{kind}", 50_000), [])
    with pytest.raises(KeyError), VIDEOS[kind](tmp_path / f"a{kind}", 50_000) as add:
        add(make_images()[0])
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_mp4_without_pyav_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"a\.mp4: writing MP4 needs the package av: pip install av, or write a GIF$"):
        write(mp4_video(tmp_path / "a.mp4", 50_000), [])


def test_mp4_can_be_decoded(tmp_path):
    av = pytest.importorskip("av")
    shade = torch.full((3, 41, 61), 200, dtype=torch.uint8)
    write(mp4_video(tmp_path / "a.mp4", 40_000), [shade] * 7)
    with av.open(str(tmp_path / "a.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert video.streams.video[0].average_rate == 25
    assert np.abs(np.array(frames).astype(int) - 200).max() < 5
    assert np.array(frames).shape == (7, 40, 60, 3)
