"""Checksums of files."""

from hashlib import file_digest
from pathlib import Path

__all__ = ["sha256_of"]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits. The file is read in blocks."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
