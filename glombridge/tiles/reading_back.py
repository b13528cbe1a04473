"""From the label files of a dataset back to objects on the slides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import shapely
from shapely.geometry.base import BaseGeometry

from ..documents import parse_json
from ..errors import InputError
from ..objects import ObjectKind, Outline, PathClass, SlideObject
from .dataset_files import MOST_RECORD_BYTES, file_bytes, label_text
from .polygons import polygons_of
from .records import SlideRecord, TileEntry, read_records
from .yolo import yolo_polygons_to_slide, yolo_to_slide

_COVERED = 0.98  # share of a view inside another from which both are views of one object


def read_labels(folder: Path) -> dict[str, list[SlideObject]]:
    """Objects that the label files of a dataset describe, in QuPath px, by image name.

    A tile shows what others show, too: a view that lies inside a larger one of the same class is
    the same object. An object that is whole in no tile comes back in the parts that were labelled.

    Args:
        folder: of the dataset. Images of one name are told apart by their entry id in brackets.

    Returns:
        Annotations with the detector's class names; ids are derived from where they lie.

    Raises:
        InputError: it is no dataset of glombridge, or a file of it is damaged.
        ProtectedError: a link in it leads out of it.
    """
    names, task = _manifest(folder)
    records = read_records(folder)
    found: dict[str, list[SlideObject]] = {}
    for record in records:
        is_twice = sum(other.image_name == record.image_name for other in records) > 1
        name = f"{record.image_name} [{record.entry_id}]" if is_twice else record.image_name
        views = [
            (index, area)
            for tile in record.tiles
            for index, area in _views(folder, record, tile, task, len(names))
        ]
        found[name] = [_object(record, names[index], area) for index, area in _without_parts(views)]
    return found


def _manifest(folder: Path) -> tuple[list[str], str]:
    try:
        manifest = parse_json(file_bytes(folder / "manifest.json", folder, MOST_RECORD_BYTES))
        return list(manifest["class_names"]), str(manifest["settings"]["task"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        msg = f"{folder} is not a dataset that glombridge wrote: {error}"
        raise InputError(msg) from error


def _views(
    folder: Path, record: SlideRecord, tile: TileEntry, task: str, classes: int
) -> Iterator[tuple[int, BaseGeometry]]:
    path = tile.files(folder, record.part)[1]
    try:
        text = label_text(path, folder)
    except OSError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error
    try:
        if task == "segment":
            found = yolo_polygons_to_slide(text, tile.box)
        else:
            found = [(i, shapely.box(*bounds)) for i, bounds in yolo_to_slide(text, tile.box)]
        unknown = [index for index, _ in found if index >= classes]
        if unknown:
            msg = f"there is no class {unknown[0]}; the dataset has {classes}, counted from 0"
            raise InputError(msg)
        yield from found
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error


def _without_parts(views: list[tuple[int, BaseGeometry]]) -> list[tuple[int, BaseGeometry]]:
    order = sorted(range(len(views)), key=lambda i: -views[i][1].area)
    tree = shapely.STRtree([area for _, area in views])
    kept: set[int] = set()
    for i in order:
        index, area = views[i]
        near = kept.intersection(tree.query(area, predicate="intersects").tolist())
        if not any(
            views[k][0] == index and views[k][1].intersection(area).area >= _COVERED * area.area
            for k in near
        ):
            kept.add(i)
    return [views[i] for i in sorted(kept)]


def _object(record: SlideRecord, name: str, area: BaseGeometry) -> SlideObject:
    parts = polygons_of(area)
    geometry = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    place = uuid5(NAMESPACE_URL, f"{record.entry_id} {name} {shapely.to_wkb(geometry).hex()}")
    return SlideObject(place, ObjectKind.ANNOTATION, Outline.of(geometry), PathClass.parse(name))
