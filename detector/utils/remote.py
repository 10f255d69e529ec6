"""Locations of recordings and datasets: local paths, and addresses such as `s3://bucket/x` for fsspec.

HDF5 and the readers of recordings need local files. A remote file is therefore copied to a temporary folder before it
is read. A new file is written to a temporary folder and then copied to its address. The environment variable TMPDIR
sets the location of these folders.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

__all__ = ["Address", "Place", "find_places", "to_place"]

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Protocols of object stores. Here a file appears only when complete, renaming copies it, and there are no folders."""


@dataclass(frozen=True)
class Address:
    """Address of a remote file or folder for fsspec, with some of the methods of `pathlib.Path`.

    Args:
        url: the address, such as `s3://bucket/folder/file`
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
        """Last part of the address without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "Address":
        """Address of the folder that contains this file or folder."""
        return Address(self.url.rpartition("/")[0])

    def absolute(self) -> "Address":
        """Return this address unchanged: it is already absolute."""
        return self

    def resolve(self) -> "Address":
        """Return this address unchanged: it is already absolute."""
        return self

    def is_file(self) -> bool:
        """Return whether a file exists at this address."""
        system, path = self._reach()
        return system.isfile(path)

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the file for reading in binary mode."""
        system, path = self._reach()
        return system.open(path, mode)

    def size(self) -> int:
        """Return the size of the file in bytes."""
        system, path = self._reach()
        return system.size(path)

    def glob(self, pattern: str) -> list["Address"]:
        """List the files and folders in this folder that match a pattern, sorted by name."""
        system, path = self._reach()
        return [self / PurePosixPath(found).name for found in sorted(system.glob(f"{path}/{pattern}"))]

    def find(self) -> list["Address"]:
        """List the files and folders that match this address. The address may contain the wildcard `*`."""
        system, path = self._reach()
        return [Address(system.unstrip_protocol(found)) for found in sorted(system.glob(path))]

    def get(self, target: Path) -> None:
        """Copy the file to the local path `target`."""
        system, path = self._reach()
        system.get_file(path, str(target))

    def put(self, source: Path) -> None:
        """Copy a local file to this address. The copy appears at the address only when it is complete."""
        system, path = self._reach()
        if self.url.partition("://")[0] in OBJECT_STORES:
            system.put_file(str(source), path)
            return
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.put_file(str(source), f"{path}.part")
        system.mv(f"{path}.part", path)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file. With `missing_ok`, a missing file is not an error."""
        system, path = self._reach()
        if not missing_ok or system.isfile(path):
            system.rm_file(path)

    def _reach(self) -> tuple[Any, str]:
        """Return the fsspec file system of this address, and the path in this file system."""
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
"""A local file or folder, or an address for fsspec."""


def to_place(text: str | Path) -> Place:
    """Convert a path or address from a user to a `Path` or `Address`. A `file://` address becomes a `Path`."""
    if isinstance(text, Path) or "://" not in text:
        return Path(text)
    protocol, _, rest = text.partition("://")
    return Path(rest) if protocol in ("file", "local") else Address(text.rstrip("/"))


def find_places(text: str | Path) -> list[Place]:
    """Convert a path or address from a user to a list of places, and expand `*` in an address.

    A path is returned as it is, because the shell has already expanded its `*`.

    Raises:
        FileNotFoundError: no file matches an address with `*`.
    """
    place = to_place(text)
    if isinstance(place, Path) or "*" not in place.url:
        return [place]
    found = place.find()
    if not found:
        raise FileNotFoundError(f"{place}: no file matches, needed: at least one file")
    return list(found)
