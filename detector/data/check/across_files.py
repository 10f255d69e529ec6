"""Faults that show only when the files of a dataset are compared."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np

from detector.data.check.finding import Finding
from detector.data.check.inventory import DataFile, TensorHeader
from detector.events.frames import Frames

__all__ = ["CheckedFile", "check_set"]

Key = TypeVar("Key", bound=Hashable)

MAX_RATE_RATIO = 2.0
"""A file whose labels come more than this many times as often as those of the median file, or as seldom, is named."""

MAX_UNLABELED = 0.5
"""Largest part of the frames between labels that may have none."""

DIGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class CheckedFile:
    """What a comparison needs to know of a file; None where it is not known.

    Args:
        file: the tensor file or recording
        grid: its frames; of a recording those of 50 ms
        header: of a tensor file
        label_times: distinct labelled times in microseconds
        class_ids: classes of its boxes
    """

    file: DataFile
    grid: Frames | None
    header: TensorHeader | None
    label_times: np.ndarray
    class_ids: frozenset[int] | None


def check_set(root: Path, files: Sequence[CheckedFile], names: Mapping[int, str]) -> list[Finding]:
    """Compare the files of a dataset.

    Args:
        root: the dataset, named in findings that concern no single file.
        files: its files.
        names: class names by id.
    """
    findings = [
        *_tensors_differ(files),
        *_same_content(files),
        *_same_time(files),
        *_same_names(root, files),
        *_lacking_classes(files, names),
        *_label_rates(root, files),
        *_unlabeled_frames(root, files),
    ]
    firsts = {(finding.path, finding.kind): finding for finding in reversed(findings)}
    return list(firsts.values())


PROPERTIES: dict[str, Callable[[TensorHeader], object]] = {
    "height": lambda header: header.shape[2],
    "width": lambda header: header.shape[3],
    "channels": lambda header: header.shape[1],
    "delta_t": lambda header: header.delta_t,
    "preprocess": lambda header: header.preprocess,
    "max_incr_per_pixel": lambda header: header.max_incr_per_pixel,
}
"""What all tensor files of a dataset must have in common."""


def _tensors_differ(files: Sequence[CheckedFile]) -> Iterator[Finding]:
    for name, of in PROPERTIES.items():
        values = {entry.file.path: of(entry.header) for entry in files if entry.header is not None}
        known = {path: value for path, value in values.items() if value is not None}
        if len(set(known.values())) > 1:
            (usual, count), *_ = Counter(known.values()).most_common()
            for path, value in known.items():
                if value != usual:
                    yield Finding("error", path, f"{name} differs", f"{value}", f"{usual}, as in {count} other files")


def _same_content(files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Copies, of files that do not tell their source."""
    untold = [entry for entry in files if _checksum(entry) is None]
    for of_size in _groups(untold, lambda entry: entry.file.path.stat().st_size).values():
        copies = _groups(of_size, _digest).values() if len(of_size) > 1 else ()
        for one, other in (pair for group in copies for pair in combinations(group, 2)):
            if one.file.split != other.file.split:
                found = f"same content as {one.file.path}"
                yield Finding("error", other.file.path, "in two splits", found, "one split a file")


def _same_names(root: Path, files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Names of different files; those of one content or source are found as such."""
    names = []
    for name, group in _groups(files, lambda entry: entry.file.labels_path.name).items():
        pairs = [(one, other) for one, other in combinations(group, 2) if one.file.split != other.file.split]
        if any(_differ(one, other) for one, other in pairs):
            names.append(name)
    if names:
        found = f"{len(names)} times with other content, first {names[0].removesuffix('_bbox.npy')}"
        yield Finding("warning", root, "one name in two splits", found, "a name of its own for each recording")


def _same_time(files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Parts of one source that overlap."""
    groups: dict[str, list[tuple[CheckedFile, tuple[int, int]]]] = defaultdict(list)
    for entry in files:
        source = _source(entry)
        if source is not None:
            groups[source[0]].append((entry, source[1]))
    for group in groups.values():
        for (one, a), (other, b) in combinations(group, 2):
            start, end = max(a[0], b[0]), min(a[1], b[1])
            if one.file.split != other.file.split and start < end:
                yield Finding(
                    "error",
                    other.file.path,
                    "in two splits",
                    f"{start} to {end} us of the source are in {one.file.path} too",
                    "each moment of a recording in one split",
                )


def _lacking_classes(files: Sequence[CheckedFile], names: Mapping[int, str]) -> Iterator[Finding]:
    """Of splits whose labels can all be read."""
    present: dict[Path, set[int]] = {}
    for folder, group in _groups([entry for entry in files if entry.file.split], _folder).items():
        known = [entry.class_ids for entry in group if entry.class_ids is not None]
        if len(known) == len(group):
            present[folder] = set().union(*known)
    everywhere = sorted(set().union(*present.values()))
    for folder, ids in present.items():
        lacking = [names.get(key, f"class {key}") for key in everywhere if key not in ids]
        if lacking:
            found = f"no box of {', '.join(lacking)}"
            yield Finding("warning", folder, "split lacks a class", found, "every class in every split")


def _label_rates(root: Path, files: Sequence[CheckedFile]) -> Iterator[Finding]:
    rates = {
        entry.file.labels_path: 1e6 / float(np.median(np.diff(entry.label_times)))
        for entry in files
        if entry.label_times.size > 1
    }
    if not rates:
        return
    usual = float(np.median(list(rates.values())))
    odd = [path for path, rate in rates.items() if max(rate / usual, usual / rate) > MAX_RATE_RATIO]
    if odd:
        yield Finding(
            "warning",
            root,
            "label rates differ",
            f"{len(odd)} of {len(rates)} files, first {odd[0].name} with {rates[odd[0]]:.3g} Hz",
            f"within a factor of {MAX_RATE_RATIO:g} of the median, {usual:.3g} Hz",
        )


def _unlabeled_frames(root: Path, files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Only frames between the first and the last labelled one are counted."""
    labeled = total = 0
    for entry in files:
        if entry.header is None or entry.grid is None:
            continue
        frames = np.unique(entry.grid.find(entry.label_times[entry.grid.inside(entry.label_times)]))
        if frames.size:
            labeled += frames.size
            total += int(frames[-1] - frames[0]) + 1
    if total and 1 - labeled / total > MAX_UNLABELED:
        yield Finding(
            "warning",
            root,
            "delta_t does not fit the label times",
            f"{1 - labeled / total:.0%} of the frames between labels have none",
            f"at most {MAX_UNLABELED:.0%}; others only carry the memory on, see data.delta_t and data.interpolation",
        )


def _groups(files: Sequence[CheckedFile], key: Callable[[CheckedFile], Key]) -> dict[Key, list[CheckedFile]]:
    groups: dict[Key, list[CheckedFile]] = defaultdict(list)
    for entry in files:
        groups[key(entry)].append(entry)
    return groups


def _folder(entry: CheckedFile) -> Path:
    return entry.file.path.parent


def _checksum(entry: CheckedFile) -> str | None:
    return entry.header.sha256 if entry.header is not None else None


def _differ(one: CheckedFile, other: CheckedFile) -> bool:
    """Whether two files come from different recordings, as far as they tell."""
    if _checksum(one) is not None and _checksum(other) is not None:
        return _checksum(one) != _checksum(other)
    return _digest(one) != _digest(other)


def _source(entry: CheckedFile) -> tuple[str, tuple[int, int]] | None:
    """Where a file comes from, and which part of it: by checksum, or else by a name `source_<start>_<end>`."""
    if entry.grid is None:
        return None
    span = entry.grid.first_t, entry.grid.end
    checksum = _checksum(entry)
    if checksum is not None:
        return checksum, span
    found = re.fullmatch(r"(.+)_(\d+)_(\d+)_bbox\.npy", entry.file.labels_path.name)
    if found is None:
        return None
    start, end = int(found[2]), int(found[3])
    length = span[1] - span[0]
    is_time = abs(end - start - length) <= 0.1 * length  # and not a date or a number
    return (found[1], (start, end)) if is_time else None


def _digest(entry: CheckedFile) -> tuple[int, bytes]:
    """Size, and a hash of the first, middle and last megabyte: two recordings do not agree in them by chance."""
    size = entry.file.path.stat().st_size
    found = sha256()
    with entry.file.path.open("rb") as file:
        for start in (0, size // 2, size - DIGEST_BYTES):
            file.seek(max(0, start))
            found.update(file.read(DIGEST_BYTES))
    return size, found.digest()
