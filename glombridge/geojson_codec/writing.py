"""Writing: exactly what QuPath 0.4 to 0.7 import, and the same bytes for the same objects."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import geojson
import shapely
from shapely.geometry import mapping

from ..objects import Color, ObjectKind, Outline, OutlineKind, PathClass, Plane, SlideObject
from ..qupath.leftovers import remove_leftovers
from ..qupath.saving import atomic_write
from .names import DEFAULT_CLASS_COLOR, EXTRAS, KIND_NAMES, NOT_FINITE


def dump_objects(
    objects: Iterable[SlideObject], *, class_colors: Mapping[str, Color] | None = None
) -> geojson.FeatureCollection:
    """Objects as a feature collection, one flat feature each.

    Coordinates keep every digit. An object without an outline gets a ``null`` geometry, which
    GeoJSON allows and QuPath does not import.

    Args:
        objects: in QuPath px.
        class_colors: colours of classes (by display text) that carry none themselves, for example
            the project's. What is missing there too gets QuPath's grey.
    """
    colors = class_colors or {}
    return geojson.FeatureCollection([_feature(o, colors) for o in objects])


def dump_geojson(
    objects: Iterable[SlideObject], *, class_colors: Mapping[str, Color] | None = None
) -> bytes:
    """Objects as the bytes of a GeoJSON file: UTF-8, one feature per line.

    Args:
        objects: in QuPath px.
        class_colors: as in :func:`dump_objects`.
    """
    collection = dump_objects(objects, class_colors=class_colors)
    lines = [_line(feature) for feature in collection["features"]]
    return b'{"type":"FeatureCollection","features":[\n' + b",\n".join(lines) + b"\n]}\n"


def write_geojson(
    path: Path | str,
    objects: Iterable[SlideObject],
    *,
    class_colors: Mapping[str, Color] | None = None,
) -> None:
    """Write objects to a file, which is at every moment the old or the complete new one.

    The first call of a process for a folder removes what killed ones left there.

    Args:
        path: of the file; its folder must be there.
        objects: in QuPath px.
        class_colors: as in :func:`dump_objects`.

    Raises:
        MachineError: disk full, no permission.
    """
    path, data = Path(path), dump_geojson(objects, class_colors=class_colors)
    # Once: a run of detections writes two files for each of thousands of slides into one folder.
    remove_leftovers(path.parent, once=True)
    # What is written here is ours to replace; where a link leads is not.
    atomic_write(path, data, through_link=False)


def _line(feature: geojson.Feature) -> bytes:
    text = json.dumps(feature, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # A name from Java can hold half of a surrogate pair; UTF-8 cannot, an escape can.
        return json.dumps(feature, allow_nan=False, separators=(",", ":")).encode("ascii")


def _feature(item: SlideObject, colors: Mapping[str, Color]) -> geojson.Feature:
    extras: dict[str, Any] = {}
    properties: dict[str, Any] = {"objectType": KIND_NAMES[item.kind]}
    if item.name is not None:
        properties["name"] = item.name
    if item.color is not None:
        properties["color"] = list(item.color[:3])
        if item.color.alpha != 255:
            extras["colorAlpha"] = item.color.alpha
    if item.path_class is not None:
        color = item.path_class.color or colors.get(str(item.path_class))
        properties["classification"] = _classification(item.path_class, color)
        if color is None:
            extras["classHasColor"] = False
    if item.locked:
        properties["isLocked"] = True
    if item.kind is ObjectKind.TMA_CORE:
        properties["isMissing"] = item.missing
    finite = {n: float(v) for n, v in item.measurements.items() if math.isfinite(v)}
    if finite:
        properties["measurements"] = finite
    # QuPath 0.4 cannot import a file with a single number that is not finite, not even its own;
    # to QuPath an absent measurement and NaN are the same.
    others = {n: _number(v) for n, v in item.measurements.items() if n not in finite}
    if others:
        extras["measurements"] = others
        extras["measurementNames"] = list(item.measurements)
    if item.metadata:
        properties["metadata"] = dict(item.metadata)
    if item.parent is not None:
        extras["parent"] = str(item.parent)
    if not math.isnan(item.probability):
        extras["probability"] = _number(item.probability)
    if not item.id_is_stored:
        extras["idIsStored"] = False
    members: dict[str, Any] = {}
    if item.nucleus is not None:
        members["nucleusGeometry"] = _geometry(item.nucleus)
        _note_kind(extras, "nucleusOutline", item.nucleus)
    geometry = None
    if item.outline is not None:
        geometry = _geometry(item.outline)
        _note_kind(extras, "outline", item.outline)
    if extras:
        properties[EXTRAS] = extras
    return geojson.Feature(id=str(item.id), geometry=geometry, properties=properties, **members)


def _classification(path_class: PathClass, color: Color | None) -> dict[str, Any]:
    color = color or DEFAULT_CLASS_COLOR
    # As QuPath's own writer: an alpha of 0 cannot be meant.
    rgb = list(color) if color.alpha not in (0, 255) else list(color[:3])
    if len(path_class.names) == 1:
        return {"name": path_class.names[0], "color": rgb}
    return {"names": list(path_class.names), "color": rgb}


def _geometry(outline: Outline) -> Any:  # a geojson geometry class, chosen by type
    shape = outline.geometry
    raw = mapping(shapely.force_2d(shape) if shape.has_z else shape)
    name = "LineString" if raw["type"] == "LinearRing" else raw["type"]
    geometry = getattr(geojson, name)()
    # Set by hand: the constructors of geojson round coordinates.
    if name == "GeometryCollection":
        geometry["geometries"] = [_part(part) for part in raw["geometries"]]
    else:
        geometry["coordinates"] = _plain(raw["coordinates"])
    if outline.plane != Plane():
        geometry["plane"] = outline.plane._asdict()
    if outline.kind is OutlineKind.ELLIPSE:
        geometry["isEllipse"] = True
    return geometry


def _part(raw: dict[str, Any]) -> dict[str, Any]:
    if "geometries" in raw:
        return {"type": raw["type"], "geometries": [_part(part) for part in raw["geometries"]]}
    return {"type": raw["type"], "coordinates": _plain(raw["coordinates"])}


def _plain(coordinates: Any) -> Any:  # nested to any depth
    if isinstance(coordinates, tuple | list):
        return [_plain(item) for item in coordinates]
    return int(coordinates) if coordinates == int(coordinates) else float(coordinates)


def _note_kind(extras: dict[str, Any], key: str, outline: Outline) -> None:
    if (
        outline.kind is not OutlineKind.ELLIPSE
        and Outline.of(outline.geometry).kind != outline.kind
    ):
        extras[key] = outline.kind.value


def _number(value: float) -> float | str:
    value = float(value)
    if math.isfinite(value):
        return value
    return next(text for text, special in NOT_FINITE.items() if repr(special) == repr(value))
