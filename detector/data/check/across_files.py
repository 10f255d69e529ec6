"""Find faults of a dataset by comparing its files."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np

from detector.data.check.event_faults.sketch import Sketch, similar_pairs
from detector.data.check.evidence import Bars
from detector.data.check.finding import Finding
from detector.data.check.inventory import DataFile, FileContent, TensorHeader
from detector.data.layout import LABELS_END

__all__ = ["CheckedFile", "check_set"]

Key = TypeVar("Key", bound=Hashable)

MAX_RATE_RATIO = 2.0
"""Largest factor by which the label rate of a file may be above or below the median label rate."""

MAX_UNLABELED = 0.5
"""Largest allowed share of unlabelled frames between the first and the last labelled frame."""

DIGEST_BYTES = 1 << 20

MIN_ELEMENTS = {"events": 300, "boxes": 100}
"""Smallest number of distinct elements from which the similarity of two files is computed."""

COMMON_SHARE = {"events": 0.2, "boxes": 0.8}
"""Share of common elements from which two files count as copies.

Different recordings have up to 2 % of their events in common. Boxes of parked cars can be equal in two parts of one
recording.
"""


@dataclass(frozen=True)
class CheckedFile:
    """A file and the properties that are compared between files.

    Args:
        file: the tensor file or recording
        content: sensor size, time grid of the frames, event times and header of the file
        label_times: distinct labelled times in microseconds
        class_ids: class ids of the boxes, None if the labels cannot be read
        events: sketch of the events or frames, None if it is not known
        boxes: sketch of the positions, sizes and classes of the boxes, None if there are no labels
    """

    file: DataFile
    content: FileContent
    label_times: np.ndarray
    class_ids: frozenset[int] | None
    events: Sketch | None = None
    boxes: Sketch | None = None

    @property
    def checksum(self) -> str | None:
        """SHA-256 of the recording from which a tensor file was made; None if it is not known, and for recordings."""
        return self.content.header.sha256 if self.content.header else None


def check_set(root: Path, files: Sequence[CheckedFile], names: Mapping[int, str]) -> list[Finding]:
    """Compare the files of a dataset. Return at most one finding of each kind for each path.

    Args:
        root: path of the dataset, used in findings about several files.
        files: files of the dataset.
        names: dict from class id to name.
    """
    findings = [
        *_tensors_differ(files),
        *_same_content(files),
        *_same_time(files),
        *_similar_content(files),
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
"""Properties that must be equal in all tensor files of a dataset."""


def _tensors_differ(files: Sequence[CheckedFile]) -> Iterator[Finding]:
    for name, of in PROPERTIES.items():
        values = {entry.file.path: of(entry.content.header) for entry in files if entry.content.header is not None}
        known = {path: value for path, value in values.items() if value is not None}
        if len(set(known.values())) > 1:
            (usual, count), *_ = Counter(known.values()).most_common()
            for path, value in known.items():
                if value != usual:
                    yield Finding("error", path, f"{name} differs", f"{value}", f"{usual}, as in {count} other files")


def _same_content(files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Find equal files in two splits, among files for which the checksum of the recording is not known."""
    unknown = [entry for entry in files if entry.checksum is None]
    for of_size in _groups(unknown, lambda entry: entry.file.path.stat().st_size).values():
        copies = _groups(of_size, _digest).values() if len(of_size) > 1 else ()
        for one, other in (pair for group in copies for pair in combinations(group, 2)):
            if one.file.split != other.file.split:
                found = f"same content as {one.file.path}"
                yield Finding("error", other.file.path, "in two splits", found, "one split per file")


def _similar_content(files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Find files in two splits with the same events or boxes: renamed, converted, cut or shifted in time."""
    for what, sketches in (("events", [entry.events for entry in files]), ("boxes", [entry.boxes for entry in files])):
        for first, second, share, number in similar_pairs(sketches):
            one, other = files[first], files[second]
            is_copy = number >= MIN_ELEMENTS[what] and share >= COMMON_SHARE[what]
            if is_copy and one.file.split != other.file.split:
                yield Finding(
                    "error",
                    other.file.path,
                    "in two splits",
                    f"about {share:.0%} of its {what} or of those of {one.file.path} are in both files",
                    "each recording in one split; names, formats and time offsets make no difference",
                    evidence=(_common_bars(one, other, what, share),),
                )


def _common_bars(one: CheckedFile, other: CheckedFile, what: str, share: float) -> Bars:
    names = f"{one.file.split}/{one.file.path.name} and {other.file.split}/{other.file.path.name}"
    values = {"in both files": 100 * share, "in one file": 100 * (1 - share)}
    return Bars(names, f"{what} of the shorter file (%), estimated from a sample", values, ("in both files",))


def _same_names(root: Path, files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Find files in two splits that have the same name but come from different recordings.

    Copies of the same recording are found by `_same_content` and `_same_time`.
    """
    names = []
    for name, group in _groups(files, lambda entry: entry.file.labels_path.name).items():
        pairs = [(one, other) for one, other in combinations(group, 2) if one.file.split != other.file.split]
        if any(_differ(one, other) for one, other in pairs):
            names.append(name)
    if names:
        found = f"{len(names)} times with other content, first {names[0].removesuffix(LABELS_END)}"
        yield Finding("warning", root, "one name in two splits", found, "a different name for each recording")


def _same_time(files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Find parts of one recording that are in two splits and overlap in time."""
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
    """Find classes with boxes in some splits but not in all. Splits with labels that cannot be read are skipped."""
    present: dict[Path, set[int]] = {}
    of_splits = [entry for entry in files if entry.file.split]
    for folder, group in _groups(of_splits, lambda entry: entry.file.path.parent).items():
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
    unusual = [path for path, rate in rates.items() if max(rate / usual, usual / rate) > MAX_RATE_RATIO]
    if unusual:
        yield Finding(
            "warning",
            root,
            "label rates differ",
            f"{len(unusual)} of {len(rates)} files, first {unusual[0].name} with {rates[unusual[0]]:.3g} Hz",
            f"within a factor of {MAX_RATE_RATIO:g} of the median, {usual:.3g} Hz",
        )


def _unlabeled_frames(root: Path, files: Sequence[CheckedFile]) -> Iterator[Finding]:
    """Yield a warning if too many frames between the first and the last labelled frame of the files have no labels."""
    labeled = total = 0
    for entry in files:
        grid = entry.content.grid
        if entry.content.header is None or grid is None:
            continue
        frames = np.unique(grid.find(entry.label_times[grid.inside(entry.label_times)]))
        if frames.size:
            labeled += frames.size
            total += int(frames[-1] - frames[0]) + 1
    if total and 1 - labeled / total > MAX_UNLABELED:
        yield Finding(
            "warning",
            root,
            "delta_t does not fit the label times",
            f"{1 - labeled / total:.0%} of the frames between labels have none",
            f"at most {MAX_UNLABELED:.0%}; the others only update the state, see data.delta_t and data.interpolation",
        )


def _groups(files: Sequence[CheckedFile], key: Callable[[CheckedFile], Key]) -> dict[Key, list[CheckedFile]]:
    groups: dict[Key, list[CheckedFile]] = defaultdict(list)
    for entry in files:
        groups[key(entry)].append(entry)
    return groups


def _differ(one: CheckedFile, other: CheckedFile) -> bool:
    """Return whether two files come from different recordings, by checksum if both have one, otherwise by content."""
    if one.checksum is not None and other.checksum is not None:
        return one.checksum != other.checksum
    return _digest(one) != _digest(other)


def _source(entry: CheckedFile) -> tuple[str, tuple[int, int]] | None:
    """Return an identifier of the recording that a file was made from, and (start, end) of the file in microseconds.

    The identifier is the checksum of the recording, or `<stem>` if the file name is `<stem>_<start>_<end>`. Return None
    if neither is known, or if the time grid of the frames is not known.
    """
    grid = entry.content.grid
    if grid is None:
        return None
    span = grid.first_t, grid.end
    if entry.checksum is not None:
        return entry.checksum, span
    found = re.fullmatch(r"(.+)_(\d+)_(\d+)_bbox\.npy", entry.file.labels_path.name)
    if found is None:
        return None
    start, end = int(found[2]), int(found[3])
    length = span[1] - span[0]
    is_time = abs(end - start - length) <= 0.1 * length  # otherwise the numbers are, for example, a date
    return (found[1], (start, end)) if is_time else None


def _digest(entry: CheckedFile) -> tuple[int, bytes]:
    """Return the size of a file and a hash of its first, middle and last megabyte.

    Both together identify the file, without reading all of it.
    """
    size = entry.file.path.stat().st_size
    found = sha256()
    with entry.file.path.open("rb") as file:
        for start in (0, size // 2, size - DIGEST_BYTES):
            file.seek(max(0, start))
            found.update(file.read(DIGEST_BYTES))
    return size, found.digest()
