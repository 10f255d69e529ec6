"""Folders of Pascal VOC labels: one XML file per image, as written by LabelImg and CVAT, and as in the PEDRo dataset.

The number of an image is the last number in the name of its XML file. Coordinates are used as they are:
w = xmax - xmin. The VOC datasets count pixels from 1 and include xmax, but LabelImg, CVAT and others do not.
Format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html.
"""

import re
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from detector.labels.formats.reading import (
    IMAGE_FILE_LIMIT,
    first_heads,
    image_files,
    image_size,
    images_without_boxes,
    make_boxes,
    number,
    number_names,
    only_value,
    read_text,
)
from detector.labels.formats.writing import box_rows, number_times, require_images, write_folder, write_times
from detector.labels.label_format import LabelFile, LabelFormat

__all__ = ["VOC"]

CORNERS = ("xmin", "ymin", "xmax", "ymax")

DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
"""Matches the first line of an XML file. It is removed because the encoding that it states is not used."""


def _read(path: Path) -> LabelFile:
    files = image_files(path, ".xml")
    columns: dict[str, list[float]] = {name: [] for name in ("t", *"xywh")}
    names: list[str] = []
    sizes: set[tuple[int, int]] = set()
    difficult = 0
    for image, file in files.items():
        root = _parse(file)
        sizes |= _size(root, file.name)
        for item in root.findall("object"):
            x, y, right, bottom = _corners(item, file.name)
            for column, value in zip(columns.values(), (image, x, y, right - x, bottom - y), strict=True):
                column.append(value)
            names.append(_text(item, "name", file.name))
            difficult += (item.findtext("difficult") or "0").strip().lower() not in ("0", "false", "")
    by_id, ids = number_names(names)
    boxes = make_boxes({**columns, "class_id": ids})
    empty = images_without_boxes(files, boxes)
    notes = (f"{difficult} boxes are marked as difficult; they are used",) if difficult else ()
    size = only_value(sizes, "images with the (height, width)")
    return LabelFile(boxes, by_id, size, empty, numbered=True, notes=notes)


def _parse(file: Path) -> ElementTree.Element:
    """Parse an XML file. Definitions of document types and entities are not allowed, because they can be harmful."""
    text = read_text(file, IMAGE_FILE_LIMIT)
    declaration = DECLARATION.match(text)
    text = text if declaration is None else text[declaration.end() :]
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{file.name} contains a DOCTYPE or ENTITY, allowed: XML files without them")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{file.name} is not a complete XML file: {error}") from None
    if root.tag != "annotation":
        raise ValueError(f"{file.name} begins with <{root.tag[:60]}>, allowed: <annotation> of Pascal VOC")
    return root


def _text(item: ElementTree.Element, name: str, where: str) -> str:
    text = (item.findtext(name) or "").strip()
    if not text:
        raise ValueError(f"{where}: an object has no <{name.rpartition('/')[2]}>, needed: name and bndbox")
    return text


def _corners(item: ElementTree.Element, where: str) -> list[float]:
    return [number(_text(item, f"bndbox/{name}", where), f"{where}: {name}") for name in CORNERS]


def _size(root: ElementTree.Element, where: str) -> set[tuple[int, int]]:
    """Return the height and width of an image as a set, which is empty if they are not known or 0."""
    texts = [(root.findtext(f"size/{name}") or "").strip() for name in ("height", "width")]
    if not all(texts):
        return set()
    height, width = (number(text, f"{where}: size") for text in texts)
    return {image_size(height, width, where)} if height != 0 and width != 0 else set()


def _matches(path: Path) -> bool:
    heads = first_heads(path, ".xml")
    return bool(heads) and all(re.search(r"<annotation[\s>]", head) for head in heads.values())


def _write(path: Path, content: LabelFile) -> None:
    """Write a folder with a file per image and `timestamps.txt`. The format has no place for tracks and scores."""
    require_images(content)
    times, image_of_box = number_times(content)
    objects: list[list[str]] = [[] for _ in times]
    for image, (class_id, x, y, w, h) in zip(image_of_box, box_rows(content.boxes, "class_id", *"xywh"), strict=True):
        if class_id not in content.names:
            raise ValueError(f"the class id {class_id} has no name, needed: the names of all classes")
        corners = zip(CORNERS, (x, y, x + w, y + h), strict=True)
        bndbox = "".join(f"<{name}>{value!r}</{name}>" for name, value in corners)
        name = escape(content.names[class_id])
        objects[image].append(f"  <object><name>{name}</name><bndbox>{bndbox}</bndbox></object>\n")
    size = ""
    if content.image_size is not None:
        height, width = content.image_size
        size = f"  <size><width>{width}</width><height>{height}</height><depth>1</depth></size>\n"
    with write_folder(path) as folder:
        for image, found in enumerate(objects):
            text = f"<annotation>\n  <filename>frame_{image:06d}.png</filename>\n{size}{''.join(found)}</annotation>\n"
            (folder / f"frame_{image:06d}.xml").write_text(text, encoding="utf-8")
        write_times(folder / "timestamps.txt", times)


VOC = LabelFormat(
    "_voc",
    _read,
    (
        "{stem}_xml",
        "{stem}/Annotations",
        "{stem}/annotations",
        "{stem}",
        "Annotations",
        "annotations",
        "xml",
    ),
    _matches,
    _write,
    is_folder=True,
)
"""Folders of Pascal VOC labels."""
