"""Writers of videos, image by image: GIF with Pillow, MP4 with PyAV."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from detector.utils.atomic_write import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["VIDEOS", "AddImage", "gif_video", "mp4_video", "to_pillow"]

AddImage = Callable[[Tensor], None]
"""Function that appends a (3, H, W) uint8 image. All images of a video must have the same size."""

GIF_TICK_US = 10_000
NO_IMAGES = "images: got none for {}, allowed: at least one image"


def to_pillow(image: Tensor) -> "Image":
    """Convert a (3, H, W) uint8 tensor to a Pillow image."""
    from PIL import Image

    return Image.fromarray(_pixels(image))


@contextmanager
def gif_video(path: Path, delta_t: int) -> Iterator[AddImage]:
    """Write an endless GIF animation image by image. The file appears only when it is complete.

    Args:
        path: file to write.
        delta_t: microseconds from one image to the next. GIF files round times to hundredths of a second.

    Yields:
        Function that appends an image.

    Raises:
        ValueError: no image was appended.
    """
    from PIL import GifImagePlugin, Image

    count = 0
    with atomic_write(path) as part, part.open("wb") as file:

        def add(image: Tensor) -> None:
            nonlocal count
            # FASTOCTREE is six times faster than the default median cut, and as good for images with so few colours.
            indexed = to_pillow(image).quantize(method=Image.Quantize.FASTOCTREE)
            ticks = (count + 1) * delta_t // GIF_TICK_US - count * delta_t // GIF_TICK_US
            header = GifImagePlugin.getheader(indexed, info={"loop": 0})[0] if count == 0 else []
            body = GifImagePlugin.getdata(indexed, duration=10 * ticks, include_color_table=True)
            file.write(b"".join([*header, *body]))
            count += 1

        yield add
        if not count:
            raise ValueError(NO_IMAGES.format(path))
        file.write(b";")


@contextmanager
def mp4_video(path: Path, delta_t: int) -> Iterator[AddImage]:
    """Write an MP4 video image by image. The file appears only when it is complete.

    Args:
        path: file to write.
        delta_t: microseconds from one image to the next.

    Yields:
        Function that appends an image. It drops the last row if the height is odd and the last column if the width is
        odd, because H.264 stores colours at half the resolution.

    Raises:
        ValueError: PyAV is not installed, or no image was appended.
    """
    try:
        import av
    except ImportError:
        raise ValueError(f"{path}: writing MP4 needs the package av: pip install av, or write a GIF") from None
    stream: Any = None
    with atomic_write(path) as part, av.open(str(part), "w", format="mp4") as video:

        def add(image: Tensor) -> None:
            nonlocal stream
            pixels = _pixels(image[:, : image.shape[1] // 2 * 2, : image.shape[2] // 2 * 2])
            if stream is None:
                stream = video.add_stream("h264", rate=Fraction(1_000_000, delta_t), pix_fmt="yuv420p")
                stream.height, stream.width = pixels.shape[:2]
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

        yield add
        if stream is None:
            raise ValueError(NO_IMAGES.format(path))
        video.mux(stream.encode())


VIDEOS: dict[str, Callable[[Path, int], AbstractContextManager[AddImage]]] = {".gif": gif_video, ".mp4": mp4_video}
"""Writers by suffix of the file name."""


def _pixels(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).contiguous().numpy()
