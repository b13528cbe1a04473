"""One GeoJSON feature to slide objects, in all the ways features have been written."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import Polygon, shape

from ..errors import InputError
from ..objects import (
    CLASS_SEPARATOR,
    Color,
    ObjectKind,
    Outline,
    OutlineKind,
    PathClass,
    Plane,
    SlideObject,
)
from .names import EXTRAS, KIND_NAMES, NOT_FINITE, ROOTS, UUID_TEXT

KINDS = {
    **{name: kind for kind, name in KIND_NAMES.items()},
    "tma_core": ObjectKind.TMA_CORE,
    # QuPath 0.2 put the Java class into the feature's id.
    "PathAnnotationObject": ObjectKind.ANNOTATION,
    "PathDetectionObject": ObjectKind.DETECTION,
    "PathCellObject": ObjectKind.CELL,
    "PathTileObject": ObjectKind.TILE,
    "TMACoreObject": ObjectKind.TMA_CORE,
    "unknown": ObjectKind.ANNOTATION,
}
"""Object types by every name they have been written with."""

_MADE_UP = UUID("5d1f3c8e-2b54-4a39-9c0e-6a7f0d1b8e21")  # namespace of ids for features without one

# What shapely raises for malformed coordinates depends on how they are malformed.
_BAD_GEOMETRY = (
    *(InputError, ValueError, TypeError, LookupError, AttributeError, OverflowError),
    *(ShapelyError, RecursionError),
)

_NO_PLANE = Plane(c=-2)

_FEATURE_MEMBERS = frozenset(["type", "id", "geometry", "nucleusGeometry", "properties", "bbox"])
_PROPERTIES = frozenset(
    [
        *("objectType", "object_type", "type", "name", "color", "colorRGB", "classification"),
        *("isLocked", "locked", "isMissing", "measurements", "metadata", "nucleusGeometry"),
        *("childObjects", "children", EXTRAS),
    ]
)


class FeatureReader:
    """Reads features one after the other and collects what it did not understand.

    Args:
        problems: gets one line for each thing in one feature.
        unknown: counts members and properties that no reader knows.
    """

    def __init__(self, problems: list[str], unknown: Counter[str]) -> None:
        self._problems = problems
        self._unknown = unknown
        self._ids: set[UUID] = set()
        self._count = 0

    def read(
        self, feature: dict[str, Any], where: str, parent: UUID | None = None
    ) -> list[SlideObject]:
        """The object of a feature and all its children; empty if nothing of it can be used."""
        self._count += 1
        extra = feature.keys() - _FEATURE_MEMBERS
        self._unknown.update(f"member {key!r} of a feature" for key in extra)
        properties = feature.get("properties")
        if not isinstance(properties, dict):
            if properties is not None:
                self._tell(where, "properties", properties, "left out")
            properties = {}
        self._unknown.update(f"property {key!r}" for key in properties.keys() - _PROPERTIES)
        extras = properties.get(EXTRAS)
        extras = extras if isinstance(extras, dict) else {}
        raw_id = feature.get("id")
        kind = self._kind(properties, raw_id, where)
        children = self._children(properties, where)
        if kind is None:  # the root stands for the image and is no object
            return [
                o for i, c in enumerate(children, 1) for o in self.read(c, f"{where}.{i}", parent)
            ]
        try:
            outline = self._outline(feature.get("geometry"), extras.get("outline"), where)
        except _BAD_GEOMETRY as error:
            self._problems.append(f"{where}: geometry cannot be used ({error}); left out")
            self._lose_children(children, where)
            return []
        object_id, is_stored = self._id(raw_id, outline, where)
        item = SlideObject(
            id=object_id,
            kind=kind,
            outline=outline,
            path_class=self._class(properties.get("classification"), extras, where),
            name=self._text(properties.get("name"), "name", where),
            color=self._own_color(properties, extras, where),
            locked=self._flag(properties.get("isLocked", properties.get("locked")), where),
            measurements=_in_order(
                {
                    **self._measurements(properties.get("measurements"), where),
                    **self._measurements(extras.get("measurements"), where),
                },
                extras.get("measurementNames"),
            ),
            metadata=self._metadata(properties.get("metadata"), where),
            probability=self._probability(extras, where),
            nucleus=self._nucleus({**properties, **feature}, extras, where),
            parent=self._parent(extras, parent, where),
            missing=self._flag(properties.get("isMissing"), where),
            id_is_stored=is_stored and extras.get("idIsStored") is not False,
        )
        found = [item]
        for number, child in enumerate(children, 1):
            found += self.read(child, f"{where}.{number}", object_id)
        return found

    def _tell(self, where: str, what: str, value: object, outcome: str) -> None:
        text = repr(value)
        text = text if len(text) <= 60 else text[:57] + "..."
        self._problems.append(f"{where}: {what} {text} is not understood; {outcome}")

    def _kind(self, properties: dict[str, Any], raw_id: object, where: str) -> ObjectKind | None:
        for key in ("objectType", "object_type", "type"):
            name = properties.get(key)
            if name is None:
                continue
            if isinstance(name, str) and name in ROOTS:
                return None
            if isinstance(name, str) and name in KINDS:
                return KINDS[name]
            self._tell(where, "object type", name, "read as an annotation, as QuPath does")
            return ObjectKind.ANNOTATION
        if isinstance(raw_id, str):
            if raw_id in ROOTS:
                return None
            return KINDS.get(raw_id, ObjectKind.ANNOTATION)
        return ObjectKind.ANNOTATION

    def _id(self, raw_id: object, outline: Outline | None, where: str) -> tuple[UUID, bool]:
        if isinstance(raw_id, str) and UUID_TEXT.fullmatch(raw_id):
            object_id = UUID(raw_id)
            if object_id not in self._ids:
                self._ids.add(object_id)
                return object_id, True
            self._problems.append(f"{where}: id {raw_id} is there twice; given a new one")
        elif raw_id is not None and not (isinstance(raw_id, str) and raw_id in KINDS):
            self._tell(where, "id", raw_id, "given a new one")
        # Made from place and outline, so that reading a file twice gives the same ids.
        seed = f"{self._count} {'' if outline is None else outline.geometry.wkb_hex}"
        object_id = uuid5(_MADE_UP, seed)
        self._ids.add(object_id)
        return object_id, False

    def _outline(self, raw: Any, kind_name: Any, where: str) -> Outline | None:
        if raw is None:
            self._problems.append(f"{where}: has no geometry; read without an outline")
            return None
        if not isinstance(raw, dict):
            msg = f"not an object but {type(raw).__name__}"
            raise InputError(msg)
        extra = raw.keys() - {"type", "coordinates", "geometries", "plane", "isEllipse", "bbox"}
        self._unknown.update(f"member {key!r} of a geometry" for key in extra)
        geometry = shape(raw)
        if geometry.has_z:
            self._problems.append(f"{where}: a third coordinate; left out")
            geometry = shapely.force_2d(geometry)
        plane = self._plane(raw.get("plane"), where)
        if raw.get("isEllipse") is True and isinstance(geometry, Polygon):
            Outline.of(geometry)  # refuses what is empty or not finite
            return Outline.ellipse(*geometry.bounds, plane)
        outline = Outline.of(geometry, plane)
        if isinstance(geometry, Polygon) and np.ptp(geometry.exterior.coords, axis=0).min() == 0:
            self._problems.append(f"{where}: outline encloses no area; kept")
        if isinstance(kind_name, str) and kind_name in {kind.value for kind in OutlineKind}:
            return Outline(outline.geometry, OutlineKind(kind_name), plane)
        return outline

    def _plane(self, raw: Any, where: str) -> Plane:
        if raw is None:
            return Plane()
        try:
            plane = Plane(int(raw.get("c", -1)), int(raw.get("z", 0)), int(raw.get("t", 0)))
        except (AttributeError, TypeError, ValueError, OverflowError):
            plane = _NO_PLANE
        if not all(-1 <= number < 1 << 31 for number in plane):
            self._tell(where, "plane", raw, "first plane taken")
            return Plane()
        return plane

    def _nucleus(
        self, members: dict[str, Any], extras: dict[str, Any], where: str
    ) -> Outline | None:
        raw = members.get("nucleusGeometry")
        if raw is None:
            return None
        try:
            return self._outline(raw, extras.get("nucleusOutline"), f"{where}, nucleus")
        except _BAD_GEOMETRY as error:
            self._problems.append(f"{where}: nucleus cannot be used ({error}); left out")
            return None

    def _class(self, raw: Any, extras: dict[str, Any], where: str) -> PathClass | None:
        try:
            found = self._class_or_error(raw, where)
            if found is not None and extras.get("classHasColor") is False:
                return PathClass(found.names)
            return found
        except InputError as error:
            self._problems.append(f"{where}: {error} Read without a class.")
        except (TypeError, AttributeError, RecursionError):
            self._tell(where, "classification", raw, "read without a class")
        return None

    def _class_or_error(self, raw: Any, where: str) -> PathClass | None:
        if raw is None or raw == {}:
            return None
        if isinstance(raw, str):
            return PathClass.parse(raw)
        extra = raw.keys() - {"name", "names", "color", "colorRGB", "parentClass"}
        self._unknown.update(f"member {key!r} of a classification" for key in extra)
        color = self._color(raw.get("color", raw.get("colorRGB")), where)
        if raw.get("name") is not None:
            text = raw["name"]
        elif raw.get("names"):
            text = CLASS_SEPARATOR.join(raw["names"])
        else:
            return None
        parent = self._class_or_error(raw.get("parentClass"), where)
        if parent is not None:  # QuPath 0.2 and 0.3
            return parent.derive(text.strip(), color)
        return PathClass.parse(text, color)

    def _color(self, raw: Any, where: str) -> Color | None:
        if raw is None or raw == []:
            return None
        if isinstance(raw, int) and not isinstance(raw, bool) and -(1 << 31) <= raw < 1 << 32:
            color = Color.from_argb(raw)
            return color if color.alpha else color._replace(alpha=255)
        if isinstance(raw, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", raw):
            return Color.from_argb(int(raw[1:], 16) | 0xFF000000)
        is_list = isinstance(raw, list) and len(raw) in (3, 4)
        if is_list and all(type(v) in (int, float) and v in range(256) for v in raw):
            return Color(*(int(v) for v in raw))
        self._tell(where, "colour", raw, "left out")
        return None

    def _own_color(
        self, properties: dict[str, Any], extras: dict[str, Any], where: str
    ) -> Color | None:
        color = self._color(properties.get("color", properties.get("colorRGB")), where)
        alpha = extras.get("colorAlpha")
        if color is not None and isinstance(alpha, int) and 0 <= alpha <= 255:
            return color._replace(alpha=alpha)
        return color

    def _text(self, raw: Any, what: str, where: str) -> str | None:
        if raw is None or isinstance(raw, str):
            return raw
        if isinstance(raw, int | float):
            return str(raw).lower() if isinstance(raw, bool) else str(raw)
        self._tell(where, what, raw, "left out")
        return None

    def _flag(self, raw: Any, where: str) -> bool:
        if raw is None or isinstance(raw, bool):
            return bool(raw)
        if raw in ("true", "false"):
            return bool(raw == "true")
        self._tell(where, "flag", raw, "taken as false")
        return False

    def _measurements(self, raw: Any, where: str) -> dict[str, float]:
        if isinstance(raw, dict):
            pairs = list(raw.items())
        elif isinstance(raw, list):  # before 0.4
            pairs = []
            for entry in raw:
                if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                    pairs.append((entry["name"], entry.get("value")))
                else:
                    self._tell(where, "measurement", entry, "left out")
        else:
            if raw is not None:
                self._tell(where, "measurements", raw, "left out")
            return {}
        numbers = {}
        for name, value in pairs:
            number = _number(value)
            if number is None:
                self._tell(where, f"measurement {name!r} of", value, "left out")
            else:
                numbers[name] = number
        return numbers

    def _metadata(self, raw: Any, where: str) -> dict[str, str]:
        if not isinstance(raw, dict):
            if raw is not None:
                self._tell(where, "metadata", raw, "left out")
            return {}
        texts = {
            key: self._text(value, f"metadata {key!r} of", where) for key, value in raw.items()
        }
        return {key: text for key, text in texts.items() if text is not None}

    def _probability(self, extras: dict[str, Any], where: str) -> float:
        number = _number(extras.get("probability"))
        if number is None:
            self._tell(where, "probability", extras["probability"], "left out")
            return math.nan
        return number

    def _parent(self, extras: dict[str, Any], parent: UUID | None, where: str) -> UUID | None:
        raw = extras.get("parent")
        if raw is None or parent is not None:
            return parent
        if isinstance(raw, str) and UUID_TEXT.fullmatch(raw):
            return UUID(raw)
        self._tell(where, "parent", raw, "put under the image")
        return None

    def _children(self, properties: dict[str, Any], where: str) -> list[dict[str, Any]]:
        raw = properties.get("childObjects", properties.get("children"))
        if raw is None:
            return []
        children = raw if isinstance(raw, list) else [raw]
        for child in children:
            if not isinstance(child, dict):
                self._tell(where, "child", child, "left out")
        return [child for child in children if isinstance(child, dict)]

    def _lose_children(self, children: list[dict[str, Any]], where: str) -> None:
        if children:
            self._problems.append(f"{where}: its {len(children)} children are left out with it")


def _number(value: Any) -> float | None:
    """A JSON number, QuPath's text for one that is not finite, or null for a missing value."""
    if value is None:
        return math.nan
    if isinstance(value, str) and value in NOT_FINITE:
        return NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _in_order(measurements: dict[str, float], names: Any) -> dict[str, float]:
    """Measurements in the order that was kept with them; those it does not name come last."""
    if not isinstance(names, list):
        return measurements
    known = [name for name in names if isinstance(name, str) and name in measurements]
    return {name: measurements[name] for name in dict.fromkeys([*known, *measurements])}
