"""What a file looks like that is not a readable recording, and what to do with it. The result is a part of errors."""

from pathlib import Path

from detector.config.extensions import EVENT_FORMATS

__all__ = ["describe", "unreadable"]

CONVERT = "convert it, for example with"
SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89HDF\r\n", "an HDF5 file", ""),
    (0, b"\x93NUMPY", "an NPY file", ""),
    (0, b"#!AER-DAT1", "an AEDAT 1 recording", f"{CONVERT} evlib"),
    (0, b"#!AER-DAT2", "an AEDAT 2 recording", f"{CONVERT} evlib"),
    (0, b"#!AER-DAT3", "an AEDAT 3 recording", f"{CONVERT} evlib"),
    (0, b"#!AER-DAT", "an AEDAT recording", f"{CONVERT} evlib or faery"),
    (0, b"#ROSBAG", "a ROS 1 bag", f"{CONVERT} rosbags"),
    (0, b"\x89MCAP", "an MCAP file (ROS 2)", f"{CONVERT} rosbags"),
    (0, b"SQLite format 3\0", "an SQLite database (ROS 2 bags in db3 files are such)", f"{CONVERT} rosbags"),
    (0, b"Event Stream", "an Event Stream recording (.es)", f"{CONVERT} faery"),
    (0, b"\x1f\x8b", "a gzip file", "decompress it first"),
    (0, b"BZh", "a bzip2 file", "decompress it first"),
    (0, b"\xfd7zXZ\0", "an xz file", "decompress it first"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file", "decompress it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (257, b"ustar", "a tar archive", "unpack it first"),
    (0, b"PK\x03\x04", "a zip archive without NPY arrays", "unpack it first"),
    (0, b"PK\x05\x06", "an empty zip archive", ""),
    (0, b"\x89PNG\r\n", "a PNG image", ""),
    (0, b"\xff\xd8\xff", "a JPEG image", ""),
    (0, b"GIF8", "a GIF image", ""),
    (0, b"II*\0", "a TIFF image", ""),
    (0, b"MM\0*", "a TIFF image", ""),
    (4, b"ftyp", "an MP4 video", ""),
    (8, b"AVI ", "an AVI video", ""),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video", ""),
    (0, b"%PDF-", "a PDF document", ""),
    (0, b"MATLAB 5.0", "a MATLAB file", "save its events as NPY or CSV"),
    (0, b"PAR1", "a Parquet table", "save its events as NPY or CSV"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "get the file itself with git lfs pull"),
    (0, b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (0, b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
)
"""For each kind of file: position and bytes of its signature, what it is, and what to do with it."""

NMNIST_EVENT = 5
"""Bytes per event in recordings of N-MNIST, which have no signature."""

LOOKED_AT = 1 << 12


def describe(path: Path) -> tuple[str, str] | None:
    """Return what a file looks like by its signature, and what to do with it. None if the signature is not known.

    Args:
        path: an existing file.
    """
    with path.open("rb") as file:
        head = file.read(LOOKED_AT)
    for place, signature, what, advice in SIGNATURES:
        if head.startswith(signature, place):
            return what, advice
    if head and not head.strip(b"\0"):
        return "a file of zero bytes, such as an incomplete download", "get the file again"
    return None


def unreadable(path: Path, found: str = "not an event recording") -> ValueError:
    """Return the error for a file that is not a readable recording.

    It says what the file looks like, which formats are readable, and what to do.

    Args:
        path: an existing file.
        found: what is wrong with the file.
    """
    if path.stat().st_size == 0:
        return ValueError(f"{path}: empty file, {found}; get the file again; readable: {_readable()}")
    what, advice = describe(path) or _guess(path)
    action = f"{advice}, or " if advice else ""
    return ValueError(
        f"{path}: {found}; it looks like {what}; readable: {_readable()}; {action}name a reader of your own with "
        f"--{EVENT_FORMATS.key} mylab.formats:read"
    )


def _readable() -> str:
    return ", ".join(EVENT_FORMATS)


def _guess(path: Path) -> tuple[str, str]:
    """Return what a file without a known signature looks like, and what to do with it."""
    with path.open("rb") as file:
        head = file.read(LOOKED_AT)
    if path.suffix.lower() == ".bin" and path.stat().st_size % NMNIST_EVENT == 0:
        return "binary data; by its name, it may be an N-MNIST recording (.bin)", "convert it, for example with tonic"
    if path.suffix.lower() == ".raw":
        return "binary data without a RAW header", f"give its encoding with --{EVENT_FORMATS.key} EVT2, EVT2.1 or EVT3"
    text = head.decode("latin-1")
    if all(char.isprintable() or char in "\t\r\n\f\xa0\xad" for char in text):
        line = text.strip().partition("\n")[0].rstrip()[:40]
        return (
            f"text that begins with {line!r}",
            "a table has at least four columns separated by commas, semicolons, tabs or blanks, save it like this",
        )
    return f"binary data that begins with {head[:8]!r}, no known header", ""
