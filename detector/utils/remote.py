"""Where recordings and datasets lie: paths of this machine, and addresses like `s3://bucket/x` that fsspec reaches.

HDF5 and the readers of recordings need files on this machine: what lies at an address is copied to a temporary folder
(the variable TMPDIR says where), and what goes there is made in one.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

__all__ = ["Address", "Place", "find_places", "to_place"]

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Where an object appears only when it is whole, renaming is copying, and folders need not be made."""


@dataclass(frozen=True)
class Address:
    """A file or folder that fsspec reaches, with the part of `pathlib.Path` that building a dataset needs.

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
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "Address":
        """The folder."""
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
        """Open it, for reading only."""
        system, path = self._reach()
        return system.open(path, mode)

    def read_text(self) -> str:
        """Its content as text."""
        with self.open() as file:
            return file.read().decode()

    def size(self) -> int:
        """Bytes of the file."""
        system, path = self._reach()
        return system.size(path)

    def glob(self, pattern: str) -> list["Address"]:
        """Files and folders in this folder, by name."""
        system, path = self._reach()
        return [self / PurePosixPath(found).name for found in sorted(system.glob(f"{path}/{pattern}"))]

    def find(self) -> list["Address"]:
        """Everything that this address, with `*` in any of its parts, stands for."""
        system, path = self._reach()
        return [Address(system.unstrip_protocol(found)) for found in sorted(system.glob(path))]

    def get(self, target: Path) -> None:
        """Copy it to a file of this machine."""
        system, path = self._reach()
        system.get_file(path, str(target))

    def put(self, source: Path) -> None:
        """Make it a copy of a file of this machine; it is there only when it is whole."""
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
        """The file system, and the path in it."""
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations

        protocol = self.url.partition("://")[0]
        try:
            return url_to_fs(self.url)
        except ImportError as error:
            package = known_implementations.get(protocol, {}).get("class", "fsspec").partition(".")[0]
            advice = "" if package == "fsspec" else f", install what reads {protocol}:// with: pip install {package}"
            raise ValueError(f"{self.url}: {error}{advice}") from None
        except ValueError as error:
            raise ValueError(f"{self.url}: {error}, allowed: a path or an address that fsspec knows") from None


Place = Path | Address
"""A file or folder of this machine, or one that fsspec reaches."""


def to_place(text: str | Path) -> Place:
    """The place that a user names; `file://` is a path."""
    if isinstance(text, Path) or "://" not in text:
        return Path(text)
    protocol, _, rest = text.partition("://")
    return Path(rest) if protocol in ("file", "local") else Address(text.rstrip("/"))


def find_places(text: str | Path) -> list[Place]:
    """The files that a user names; an address may hold `*`, which no shell replaces.

    Raises:
        FileNotFoundError: nothing matches the pattern.
    """
    place = to_place(text)
    if isinstance(place, Path) or "*" not in place.url:
        return [place]
    found = place.find()
    if not found:
        raise FileNotFoundError(f"{place}: nothing there matches, needed: at least one file")
    return list(found)
