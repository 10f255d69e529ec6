"""The size of the sensor, from a file or from the caller."""

from pathlib import Path

__all__ = ["MAX_SIDE", "sensor_size"]

MAX_SIDE = 1 << 16

OPTIONS = "--sensor_height N --sensor_width N"


def sensor_size(path: Path, found: tuple[int, int] | None, height: int | None, width: int | None) -> tuple[int, int]:
    """Return (height, width) of the sensor in pixels, from the file or else from the caller.

    Args:
        path: path of the recording, for error messages.
        found: (height, width) in the file, None if the file does not contain them.
        height: height in pixels given by the caller, or None.
        width: width in pixels given by the caller, or None.

    Raises:
        ValueError: the size is unknown, the caller contradicts the file, or a side is below 1 or above 65536.
    """
    if found is None and (height is None or width is None):
        raise ValueError(f"{path}: the header contains no sensor size, give height and width in pixels: {OPTIONS}")
    size = found or (height or 0, width or 0)
    if (height or size[0], width or size[1]) != size:
        raise ValueError(
            f"{path}: height, width: got {height}, {width}, allowed: those of the header, {size[0]}, {size[1]}"
        )
    if min(size) < 1 or max(size) > MAX_SIDE:
        raise ValueError(f"{path}: height, width: got {size[0]}, {size[1]}, allowed: at least 1, at most {MAX_SIDE}")
    return size
