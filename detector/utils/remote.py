"""Locations of recordings and datasets: paths of this machine, and addresses like `s3://bucket/x` for fsspec.

HDF5 and the readers of recordings need files on this machine: a file at an address is copied to a temporary folder (see
the variable TMPDIR) before reading, and written in one before it is copied to its address.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

__all__ = ["Address", "Place", "find_places", "to_place"]

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Protocols of object stores: objects appear only when complete, renaming copies them, and there are no folders."""


@dataclass(frozen=True)
class Address:
    """A file or folder for fsspec, with the methods of `pathlib.Path` that building a dataset needs.

    Args:
        url: such as `s3://bucket/folder/file`
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Address":
        return Address(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """Last part of the address."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """Last part without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "Address":
        """The folder that contains it."""
        return Address(self.url.rpartition("/")[0])

    def absolute(self) -> "Address":
        """Itself."""
        return self

    def resolve(self) -> "Address":
        """Itself."""
        return self

    def is_file(self) -> bool:
        """Whether there is such a file."""
        system, path = self._reach()
        return system.isfile(path)

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the file for reading."""
        system, path = self._reach()
        return system.open(path, mode)

    def size(self) -> int:
        """Size of the file in bytes."""
        system, path = self._reach()
        return system.size(path)

    def glob(self, pattern: str) -> list["Address"]:
        """Files and folders in this folder that match a pattern, sorted by name."""
        system, path = self._reach()
        return [self / PurePosixPath(found).name for found in sorted(system.glob(f"{path}/{pattern}"))]

    def find(self) -> list["Address"]:
        """Files and folders that match this address, which may contain `*`."""
        system, path = self._reach()
        return [Address(system.unstrip_protocol(found)) for found in sorted(system.glob(path))]

    def get(self, target: Path) -> None:
        """Copy the file to a file of this machine."""
        system, path = self._reach()
        system.get_file(path, str(target))

    def put(self, source: Path) -> None:
        """Copy a file of this machine to this address, where it appears only when it is complete."""
        system, path = self._reach()
        if self.url.partition("://")[0] in OBJECT_STORES:
            system.put_file(str(source), path)
            return
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.put_file(str(source), f"{path}.part")
        system.mv(f"{path}.part", path)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        system, path = self._reach()
        if not missing_ok or system.isfile(path):
            system.rm_file(path)

    def _reach(self) -> tuple[Any, str]:
        """The fsspec file system, and the path in it."""
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations

        protocol = self.url.partition("://")[0]
        try:
            return url_to_fs(self.url)
        except ImportError as error:
            package = known_implementations.get(protocol, {}).get("class", "fsspec").partition(".")[0]
            advice = "" if package == "fsspec" else f", install support for {protocol}:// with: pip install {package}"
            raise ValueError(f"{self.url}: {error}{advice}") from None
        except ValueError as error:
            raise ValueError(f"{self.url}: {error}, allowed: a path or an address that fsspec knows") from None


Place = Path | Address
"""A file or folder of this machine, or an address for fsspec."""


def to_place(text: str | Path) -> Place:
    """Convert the path or address that a user gives; `file://` is a path."""
    if isinstance(text, Path) or "://" not in text:
        return Path(text)
    protocol, _, rest = text.partition("://")
    return Path(rest) if protocol in ("file", "local") else Address(text.rstrip("/"))


def find_places(text: str | Path) -> list[Place]:
    """Find the files that a user names; an address may contain `*`, which the shell does not expand.

    Raises:
        FileNotFoundError: nothing matches the pattern.
    """
    place = to_place(text)
    if isinstance(place, Path) or "*" not in place.url:
        return [place]
    found = place.find()
    if not found:
        raise FileNotFoundError(f"{place}: no file matches, needed: at least one file")
    return list(found)
