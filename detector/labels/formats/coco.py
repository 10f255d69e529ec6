"""Label files in the JSON format of COCO, as written by CVAT, Label Studio, Roboflow and `evforge predict`.

The times of the boxes are in the images: a time such as `t`, an image number such as `frame_id`, or a number in the
name of the image file. Format: https://cocodataset.org/#format-data.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detector.config.label_timing import TimeUnit
from detector.labels.formats.reading import (
    image_numbers,
    image_size,
    images_without_boxes,
    make_boxes,
    one_recording,
    only_value,
    read_head,
    read_text,
)
from detector.labels.formats.writing import box_rows, has_tracks, number_times, require_images
from detector.labels.label_format import LabelFile, LabelFormat
from detector.utils.atomic_write import atomic_write

__all__ = ["COCO"]

TIMES: dict[str, TimeUnit | None] = {
    **{"t": "us", "t_us": "us", "timestamp_us": "us", "t_ms": "ms", "timestamp_ms": "ms"},
    **{"t_s": "s", "timestamp_s": "s", "t_ns": "ns", "timestamp_ns": "ns", "timestamp": None},
}
"""Entries of an image that contain its time, with the unit that they state."""

NUMBERS = ("frame_id", "frame_index", "frame_number", "frame_idx", "frame", "image_index", "image_number")
"""Entries of an image that contain its number."""

WHOLE = "a whole number"


def _read(path: Path) -> LabelFile:
    try:
        content = json.loads(read_text(path), object_hook=_without_masks)
    except RecursionError:
        raise ValueError("the JSON file is nested too deeply, allowed: a COCO file") from None
    if isinstance(content, list):
        return _read_results(content)
    if not isinstance(content, dict):
        raise ValueError(f"the JSON file contains a {type(content).__name__}, allowed: a COCO file")
    images, annotations = (_dicts(content, name) for name in ("images", "annotations"))
    _check_video(content, images)
    if not images:
        raise ValueError("there are no images: the list 'images' is empty, needed: an entry per labelled image")
    times, numbered, unit = _times_of_images(images)
    kept, notes = _without_crowds(annotations)
    boxes, track_notes = _to_boxes(kept, times)
    return LabelFile(
        boxes,
        _names(_dicts(content, "categories") if "categories" in content else []),
        _image_size(images),
        images_without_boxes(_unannotated(times, annotations), boxes),
        numbered,
        time_unit=unit,
        notes=(*notes, *track_notes),
    )


def _read_results(content: list) -> LabelFile:
    """Read a list of detections, as accepted by `loadRes` of pycocotools: the image ids are numbers of images."""
    rows = [_require_dict(row, f"result {count}") for count, row in enumerate(content)]
    images = {int(_number(row.get("image_id"), f"result {count}: image_id", WHOLE)) for count, row in enumerate(rows)}
    kept, notes = _without_crowds(rows)
    boxes, track_notes = _to_boxes(kept, {image: image for image in images})
    return LabelFile(boxes, numbered=True, notes=(*notes, *track_notes))


def _check_video(content: dict, images: list[dict]) -> None:
    """Check that the images are those of one video. Without `video_id`, the file may list a single video."""
    ids = [_shown(image["video_id"]) for image in images if image.get("video_id") is not None]
    videos = content.get("videos")
    if not ids and isinstance(videos, list):
        ids = [_shown(video.get("name", video.get("id"))) for video in videos if isinstance(video, dict)]
    one_recording(ids, "video")


def _without_masks(found: dict) -> dict:
    """Remove the masks of an annotation with a box, which may be most of the file."""
    if found.get("bbox"):
        found.pop("segmentation", None)
        found.pop("keypoints", None)
    return found


def _require_dict(value: Any, where: str) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: got a {type(value).__name__}, allowed: an object {{...}}")
    return value


def _dicts(content: dict, name: str) -> list[dict]:
    values = content.get(name)
    if not isinstance(values, list):
        raise ValueError(
            f'{name!r} is {"missing" if values is None else "not a list"}, allowed: the lists "images", '
            '"annotations" and "categories" of a COCO file'
        )
    return [_require_dict(value, f"entry {count} of {name!r}") for count, value in enumerate(values)]


def _number(value: Any, where: str, allowed: str = "a number") -> float:
    whole = allowed == WHOLE
    ok = isinstance(value, int | float) and not isinstance(value, bool) and (not whole or value == value // 1)
    if not ok:
        raise ValueError(f"{where}: got {_shown(value)}, allowed: {allowed}")
    return int(value) if whole else value


def _shown(value: Any) -> str:
    """Return a short text of a value for error messages."""
    return repr(value)[:60] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _key(row: dict, name: str, where: str) -> int | str:
    """Return an id, which is usually a number and in some files a text."""
    value = row.get(name)
    return value if isinstance(value, str) else int(_number(value, f"{where}: {name}", WHOLE))


def _names(categories: list[dict]) -> dict[int, str]:
    names: dict[int, str] = {}
    for count, category in enumerate(categories):
        where = f"entry {count} of 'categories'"
        key, name = int(_number(category.get("id"), f"{where}: id", WHOLE)), category.get("name")
        if not isinstance(name, str):
            raise ValueError(f"{where}: got the name {_shown(name)}, allowed: a text")
        if names.setdefault(key, name) != name:
            raise ValueError(f"the category id {key} has the names {names[key]!r} and {name!r}, allowed: one name")
    return names


def _times_of_images(images: list[dict]) -> tuple[dict[int | str, float], bool, TimeUnit | None]:
    """Return the time or number of each image by image id, whether they are numbers, and the unit of the times."""
    entries = (*TIMES, *NUMBERS)
    entry = next((name for name in entries if images and images[0].get(name) is not None), None)
    keys = [_key(image, "id", f"entry {count} of 'images'") for count, image in enumerate(images)]
    if len(set(keys)) < len(keys):
        raise ValueError("two images have the same id, allowed: different ids")
    if entry is None:
        values: list[float] = [*image_numbers([_file_name(image, count) for count, image in enumerate(images)])]
    else:
        allowed = WHOLE if entry in NUMBERS else "a number"
        values = [
            _number(image.get(entry), f"entry {count} of 'images': {entry}", allowed)
            for count, image in enumerate(images)
        ]
    times = dict(zip(keys, values, strict=True))
    return times, entry not in TIMES, TIMES.get(entry) if entry is not None else None


def _file_name(image: dict, count: int) -> str:
    name = image.get("file_name")
    if not isinstance(name, str):
        raise ValueError(
            f"entry {count} of 'images' has no time, needed: t in microseconds, {', '.join(list(TIMES)[1:])}, "
            f"{', '.join(NUMBERS)}, or a number in file_name"
        )
    return name


def _image_size(images: list[dict]) -> tuple[int, int] | None:
    """Return the height and width that all images have. In some files, they are null or 0 if they are not known."""
    sizes = set()
    for count, image in enumerate(images):
        given = [image.get(name) or 0 for name in ("height", "width")]
        height, width = (int(_number(value, f"entry {count} of 'images': size", WHOLE)) for value in given)
        if height and width:
            sizes.add(image_size(height, width, f"entry {count} of 'images'"))
    return only_value(sizes, "images with the (height, width)")


def _without_crowds(annotations: list[dict]) -> tuple[list[dict], tuple[str, ...]]:
    """Leave out annotations of crowds and of regions to ignore, which are not boxes of single objects."""
    kept = [row for row in annotations if not row.get("iscrowd") and not row.get("ignore")]
    left_out = len(annotations) - len(kept)
    note = f"{left_out} annotations of crowds or ignored regions are not used, nor images that have no others"
    return kept, (note,) if left_out else ()


def _unannotated(times: Mapping[int | str, float], annotations: list[dict]) -> list[float]:
    """Return the times of the images without any annotation. Images with crowds only are not background."""
    annotated = {row.get("image_id") for row in annotations if isinstance(row.get("image_id"), int | float | str)}
    return [time for image, time in times.items() if image not in annotated]


def _to_boxes(rows: list[dict], times: Mapping[int | str, float]) -> tuple[np.ndarray, tuple[str, ...]]:
    columns: dict[str, list] = {name: [] for name in ("t", *"xywh", "class_id", "class_confidence")}
    tracks = []
    for count, row in enumerate(rows):
        where = f"annotation {_shown(row.get('id', count))}"
        image = _key(row, "image_id", where)
        if image not in times:
            raise ValueError(f"{where}: the image_id {_shown(image)} is not in 'images', allowed: ids of images")
        score = row.get("score")
        values = (times[image], *_bbox(row, where), _number(row.get("category_id"), f"{where}: category_id", WHOLE))
        for column, value in zip(columns.values(), (*values, 1.0), strict=True):
            column.append(value)
        if score is not None:
            columns["class_confidence"][-1] = _number(score, f"{where}: score")
        tracks.append(_track(row))
    if not any(tracks):
        return make_boxes(columns), ()
    if all(isinstance(track, int) for track in tracks):
        return make_boxes({**columns, "track_id": tracks}), ()
    return make_boxes(columns), ("track ids that are not whole numbers are not used",)


def _bbox(row: dict, where: str) -> list[float]:
    """Return x, y, w, h of an annotation. If it has only polygons, this is the box around them."""
    bbox = row.get("bbox")
    if bbox:
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise ValueError(f"{where}: the bbox is not a list of 4 numbers, allowed: [x, y, width, height]")
        return [_number(value, f"{where}: bbox") for value in bbox]
    polygons = row.get("segmentation")
    if not isinstance(polygons, list) or not polygons or not all(isinstance(part, list) for part in polygons):
        raise ValueError(f"{where} has no bbox, needed: bbox [x, y, width, height], or polygons")
    x, y = ([_number(value, f"{where}: segmentation") for part in polygons for value in part[k::2]] for k in (0, 1))
    if not x or len(x) != len(y):
        raise ValueError(f"{where}: the polygons have {len(x)} x and {len(y)} y, allowed: pairs of x and y")
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _track(row: dict) -> Any:
    """Return the track id of an annotation, 0 if it has none. CVAT writes it among the attributes."""
    attributes = row.get("attributes")
    track = row.get("track_id")
    if track is None and isinstance(attributes, dict):
        track = attributes.get("track_id")
    return 0 if track is None or track == -1 else track


def _matches(path: Path) -> bool:
    head = read_head(path).lstrip()
    if head.startswith("{"):
        return any(_has_list(head, name) for name in ("images", "annotations", "categories"))
    return head.startswith("[") and '"image_id"' in head and '"bbox"' in head


def _has_list(head: str, name: str) -> bool:
    _, found, rest = head.partition(f'"{name}"')
    return bool(found) and "".join(rest[:100].split()).startswith(":[")


def _write(path: Path, content: LabelFile) -> None:
    """Write a COCO file that pycocotools reads. Images have the time `t` in microseconds and are numbered from 1."""
    require_images(content)
    times, image_of_box = number_times(content)
    size = {} if content.image_size is None else dict(zip(("height", "width"), content.image_size, strict=True))
    images = [{"id": key, "t": t, **size} for key, t in enumerate(times.tolist(), 1)]
    categories = [{"id": int(key), "name": name} for key, name in content.names.items()]
    names = [name for name in ("class_confidence",) if name in (content.boxes.dtype.names or ())]
    names += ["track_id"] * has_tracks(content.boxes)
    rows = zip(image_of_box.tolist(), box_rows(content.boxes, *"xywh", "class_id", *names), strict=True)
    annotations = [
        {
            **{"id": key, "image_id": image + 1, "category_id": int(class_id), "bbox": [x, y, w, h]},
            **{"area": w * h, "iscrowd": 0},
            **dict(zip(("score" if name == "class_confidence" else name for name in names), more, strict=True)),
        }
        for key, (image, (x, y, w, h, class_id, *more)) in enumerate(rows, 1)
    ]
    with atomic_write(path) as part:
        part.write_text(json.dumps({"categories": categories, "images": images, "annotations": annotations}) + "\n")


COCO = LabelFormat(
    ".json",
    _read,
    (
        "{stem}_coco.json",
        "{stem}/annotations/instances_default.json",
        "{stem}/annotations/instances_train.json",
        "{stem}/_annotations.coco.json",
        "{stem}/train/_annotations.coco.json",
        "{stem}/result.json",
        "annotations.json",
        "instances.json",
        "labels.json",
        "annotations/instances_default.json",
        "annotations/instances_train.json",
        "_annotations.coco.json",
        "train/_annotations.coco.json",
        "result.json",
    ),
    _matches,
    _write,
)
"""COCO files; the paths are those of exports from CVAT, Roboflow and Label Studio."""
