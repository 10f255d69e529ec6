"""Films of pictures that come one after another: GIF by Pillow, MP4 by PyAV or the program ffmpeg."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from detector.utils.atomic_write import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FILMS", "AddPicture", "gif_film", "mp4_film", "to_picture"]

AddPicture = Callable[[Tensor], None]
"""Appends a (3, H, W) uint8 picture; all have one size."""

GIF_TICK_US = 10_000
NO_PICTURE = "images: got none for {}, allowed: at least one picture"


def to_picture(image: Tensor) -> "Image":
    """A (3, H, W) uint8 tensor as a picture of Pillow's."""
    from PIL import Image

    return Image.fromarray(_pixels(image))


@contextmanager
def gif_film(path: Path, delta_t: int) -> Iterator[AddPicture]:
    """Write an endless animation, a picture at a time; the file appears only when it is whole.

    Args:
        path: file to write.
        delta_t: microseconds from picture to picture; GIF counts in hundredths of a second.

    Yields:
        what appends a picture.

    Raises:
        ValueError: no picture came.
    """
    from PIL import GifImagePlugin, Image

    count = 0
    with atomic_write(path) as part, part.open("wb") as file:

        def add(image: Tensor) -> None:
            nonlocal count
            # Six times faster than the default median cut, and as good for the few colours of these pictures.
            picture = to_picture(image).quantize(method=Image.Quantize.FASTOCTREE)
            ticks = (count + 1) * delta_t // GIF_TICK_US - count * delta_t // GIF_TICK_US
            header = GifImagePlugin.getheader(picture, info={"loop": 0})[0] if count == 0 else []
            body = GifImagePlugin.getdata(picture, duration=10 * ticks, include_color_table=True)
            file.write(b"".join([*header, *body]))
            count += 1

        yield add
        if not count:
            raise ValueError(NO_PICTURE.format(path))
        file.write(b";")


def mp4_film(path: Path, delta_t: int) -> AbstractContextManager[AddPicture]:
    """Write an MP4 film, a picture at a time; the file appears only when it is whole.

    Args:
        path: file to write.
        delta_t: microseconds from picture to picture.

    Returns:
        context that gives what appends a picture.

    Raises:
        ValueError: neither PyAV nor ffmpeg is there.
    """
    if find_spec("av"):
        return _by_pyav(path, delta_t)
    program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError(f"{path}: MP4 needs the package av (pip install av) or the program ffmpeg; GIF needs neither")
    return _by_ffmpeg(path, delta_t, program)


FILMS: dict[str, Callable[[Path, int], AbstractContextManager[AddPicture]]] = {".gif": gif_film, ".mp4": mp4_film}
"""Writers by the ending of the file's name."""


@contextmanager
def _by_pyav(path: Path, delta_t: int) -> Iterator[AddPicture]:
    import av

    stream: Any = None
    with atomic_write(path) as part, av.open(str(part), "w", format="mp4") as film:

        def add(image: Tensor) -> None:
            nonlocal stream
            pixels = _even(_pixels(image))
            if stream is None:
                stream = film.add_stream("h264", rate=Fraction(1_000_000, delta_t), pix_fmt="yuv420p")
                stream.height, stream.width = pixels.shape[:2]
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

        yield add
        if stream is None:
            raise ValueError(NO_PICTURE.format(path))
        film.mux(stream.encode())


@contextmanager
def _by_ffmpeg(path: Path, delta_t: int, program: str) -> Iterator[AddPicture]:
    process: subprocess.Popen[bytes] | None = None
    with atomic_write(path) as part, tempfile.TemporaryFile() as errors:

        def add(image: Tensor) -> None:
            nonlocal process
            pixels = _even(_pixels(image))
            if process is None:
                command = [program, *_ffmpeg_arguments(pixels.shape, delta_t), str(part.absolute())]
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=errors, stderr=errors)
            assert process.stdin is not None
            process.stdin.write(pixels.tobytes())

        try:
            yield add
        except BrokenPipeError:
            pass  # what ffmpeg had to say is told below
        finally:
            if process is not None:
                process.communicate()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
        if process is None:
            raise ValueError(NO_PICTURE.format(path))
        if process.returncode:
            raise OSError(f"{path}: ffmpeg: {said[-1] if said else process.returncode}")


def _ffmpeg_arguments(shape: tuple[int, ...], delta_t: int) -> list[str]:
    """What ffmpeg has to know: raw pictures come in, a file that every player shows goes out."""
    source = f"-f rawvideo -pix_fmt rgb24 -s {shape[1]}x{shape[0]} -r 1000000/{delta_t} -i pipe:0"
    return f"-loglevel error {source} -pix_fmt yuv420p -f mp4 -y".split()


def _pixels(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).contiguous().numpy()


def _even(pixels: np.ndarray) -> np.ndarray:
    """Without a last odd row or column: colours have half of the resolution."""
    return np.ascontiguousarray(pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2])
