"""What is wrong with the objects of a GeoJSON file, and what can be done about each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import shapely
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from ..errors import InputError
from ..objects import (
    CLASS_SEPARATOR,
    Color,
    ObjectKind,
    Outline,
    PathClass,
    SlideObject,
    check_class_level,
    sound_area,
)
from .features import KINDS, FeatureReader
from .names import DEFAULT_CLASS_COLOR, ROOTS, UUID_TEXT
from .raw_shapes import close_rings
from .reading import not_too_deep, raw_features

EDGE_SLACK_PX = 0.5
"""How far over the slide's edge an outline may reach: a brush stroke at the edge does."""


class Fault(str, Enum):
    """What can be wrong with an object."""

    NOT_AN_OBJECT = "not an object"
    EMPTY = "empty geometry"
    BAD_GEOMETRY = "unreadable geometry"
    UNCLOSED = "unclosed ring"
    INVALID = "invalid ring"
    OFF_SLIDE = "off the slide"
    NO_ID = "no id"
    BAD_ID = "id is no UUID"
    SAME_ID = "id used twice"
    DUPLICATE = "duplicate"
    NO_CLASS = "no class"
    NO_COLOR = "class without a colour"
    BAD_CLASS = "unreadable class name"
    NOT_UNDERSTOOD = "not understood"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one object.

    Attributes:
        where: place in the file, ``feature 3``, or ``feature 3.1`` for its first child.
        text: what is wrong.
        done: what the repaired copy does about it, ``None`` = a person has to decide.
        is_note: worth knowing and no fault.
    """

    where: str
    fault: Fault
    text: str
    done: str | None = None
    is_note: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "object": self.where,
            "fault": self.fault.value,
            "text": self.text,
            "fix": self.done,
            "note": self.is_note,
        }


@dataclass(frozen=True)
class Linted:
    """A checked file.

    Attributes:
        objects: all that can be kept, repaired.
        findings: in the order of the file.
        lost: what the file says around or on objects that no reader knows, and a copy leaves out.
    """

    objects: tuple[SlideObject, ...]
    findings: tuple[Finding, ...]
    lost: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[Finding, ...]:
        """Findings that are faults."""
        return tuple(f for f in self.findings if not f.is_note)

    @property
    def remaining(self) -> tuple[Finding, ...]:
        """Faults that no program may decide."""
        return tuple(f for f in self.faults if f.done is None)


def lint_objects(
    text_or_path: str | bytes | Path, *, size_px: tuple[int, int] | None = None
) -> Linted:
    """Check every object of a file, and repair what can be repaired.

    Args:
        text_or_path: as for :func:`~glombridge.geojson_codec.load_objects`.
        size_px: width and height of the slide in QuPath px; without it, nothing is off the slide.

    Raises:
        InputError: the file is not there, or is JSON but no GeoJSON.
        DamagedFileError: it is cut, or no JSON.
    """
    unknown: Counter[str] = Counter()
    items = list(raw_features(text_or_path, unknown))
    check = _Check(size_px, unknown, cache(lambda: _colors_in(items)))
    with not_too_deep(text_or_path):
        for number, item in enumerate(items, 1):
            if isinstance(item, dict):
                check.feature(item, f"feature {number}", None)
            else:
                check.tell(f"feature {number}", Fault.NOT_AN_OBJECT, item, "left out")
    lost = [f"{what} ({count} times)" for what, count in sorted(unknown.items())]
    return Linted(check.kept(), tuple(check.findings), tuple(lost))


class _Check:
    def __init__(
        self,
        size_px: tuple[int, int] | None,
        unknown: Counter[str],
        colors: Callable[[], dict[tuple[str, ...], Color]],
    ) -> None:
        self.objects: list[SlideObject] = []
        self.findings: list[Finding] = []
        self._colors = colors
        self._size_px = size_px
        self._problems: list[str] = []
        self._reader = FeatureReader(self._problems, unknown)
        self._ids: set[UUID] = set()
        self._seen: dict[tuple[Any, ...], SlideObject] = {}
        self._places: dict[UUID, str] = {}
        self._merged: dict[UUID, UUID] = {}

    def tell(
        self, where: str, fault: Fault, text: str, done: str | None = None, *, note: bool = False
    ) -> None:
        self.findings.append(Finding(where, fault, text, done, note))

    def kept(self) -> tuple[SlideObject, ...]:
        """The objects, those under a left-out repetition moved under the one that stays."""
        return tuple(
            replace(o, parent=self._merged[o.parent]) if o.parent in self._merged else o
            for o in self.objects
        )

    def feature(self, raw: dict[str, Any], where: str, parent: UUID | None) -> None:
        """Check a feature and then its children; ``parent`` is the id of the object above it."""
        raw = dict(raw)
        properties = raw.get("properties")
        children: Any = []
        if isinstance(properties, dict):
            properties = dict(properties)
            for key in ("childObjects", "children"):
                children = properties.pop(key, None) or children
            raw["properties"] = properties
        if not _is_root(raw):
            found = self._object(raw, where, parent)
            if children and found is None:
                done = "they are put one level higher"
                self.tell(where, Fault.NOT_AN_OBJECT, "had children", done, note=True)
            parent = parent if found is None else found
        for number, child in enumerate(children if isinstance(children, list) else [children], 1):
            place = f"{where}.{number}"
            if isinstance(child, dict):
                self.feature(child, place, parent)
            else:
                self.tell(place, Fault.NOT_AN_OBJECT, f"{child!r:.60} is no object", "left out")

    def _object(self, raw: dict[str, Any], where: str, parent: UUID | None) -> UUID | None:
        """Keep the object of a feature, repaired; its id, or that of the one it repeats."""
        id_fault = self._check_id(raw)
        if not self._check_geometry(raw, where):
            return None
        self._check_class(raw, where)
        found = self._reader.read(raw, where, parent)
        for line in self._problems:
            if "encloses no area" not in line:  # found again below, for each kind of outline
                self._tell_problem(where, line, bool(found))
        self._problems.clear()
        if not found:
            return None
        (item,) = found
        if id_fault is not None:
            self.tell(where, *id_fault, f"given {item.id}")
        self._ids.add(item.id)
        repaired = self._outlines(item, where)
        if repaired is None:
            return None
        repaired = self._colored(repaired, raw, where)
        first = self._repeats(repaired, where)
        if first is not None:
            self._merged[item.id] = first
            return first
        self.objects.append(repaired)
        return repaired.id

    def _tell_problem(self, where: str, line: str, kept: bool) -> None:
        text = line.removeprefix(where).removeprefix(":").removeprefix(",").strip()
        text, separator, done = text.rpartition("; ")
        if not separator:
            text, done = done, "kept without it" if kept else "left out"
        fault = Fault.NOT_UNDERSTOOD if kept else Fault.BAD_GEOMETRY
        self.tell(where, fault, text, done)

    def _check_id(self, raw: dict[str, Any]) -> tuple[Fault, str] | None:
        given = raw.get("id")
        if given is None:
            return Fault.NO_ID, "has no id: each import into QuPath gives it another one"
        if not isinstance(given, str) or not UUID_TEXT.fullmatch(given):
            if not (isinstance(given, str) and given in KINDS):
                raw["id"] = None  # a kind, as QuPath 0.2 wrote it there, still has to be read
            return Fault.BAD_ID, f"id {given!r:.80} is no UUID"
        if UUID(given) in self._ids:
            raw["id"] = None
            return Fault.SAME_ID, f"id {given} is another object's already"
        return None

    def _check_geometry(self, raw: dict[str, Any], where: str) -> bool:
        geometry = raw.get("geometry")
        if geometry is None or geometry == {}:
            self.tell(
                where, Fault.EMPTY, "has no geometry, and QuPath cannot import it", "left out"
            )
            return False
        if not isinstance(geometry, dict):
            self.tell(where, Fault.BAD_GEOMETRY, f"geometry is {geometry!r:.60}", "left out")
            return False
        closed, unclosed = close_rings(geometry)
        if unclosed:
            many = "a ring does" if unclosed == 1 else f"{unclosed} rings do"
            self.tell(where, Fault.UNCLOSED, f"{many} not end where it begins", "closed")
        if closed is None:
            self.tell(where, Fault.EMPTY, "geometry is empty", "left out")
            return False
        raw["geometry"] = closed
        return True

    def _check_class(self, raw: dict[str, Any], where: str) -> None:
        properties = raw.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        given = properties.get("classification")
        levels = list(_levels(given))
        if not levels:
            if given in (None, {}, ""):
                self.tell(where, Fault.NO_CLASS, "has no class", note=True)
            return
        try:
            for level in levels:
                check_class_level(level)
        except InputError as error:
            parts = [part.strip() for level in levels for part in _split(level)]
            parts = [part for part in parts if part]
            renamed: dict[str, Any] | None = None
            if parts:
                renamed = {"name": CLASS_SEPARATOR.join(parts)}
                if isinstance(given, dict):
                    renamed |= {k: given[k] for k in ("color", "colorRGB") if k in given}
            done = f"renamed {CLASS_SEPARATOR.join(parts)!r}" if parts else "class taken away"
            self.tell(where, Fault.BAD_CLASS, str(error), done)
            raw["properties"] = {**properties, "classification": renamed}

    def _colored(self, item: SlideObject, raw: dict[str, Any], where: str) -> SlideObject:
        if item.path_class is None:
            return item
        given = raw["properties"]["classification"]
        if isinstance(given, dict) and (given.get("color") or given.get("colorRGB") is not None):
            return item
        # Looked for only where one is missing: it means reading the file once more.
        color = self._colors().get(item.path_class.names)
        source = "that of the class elsewhere in the file" if color else "QuPath's grey"
        color = color or DEFAULT_CLASS_COLOR
        self.tell(
            where,
            Fault.NO_COLOR,
            f"class {str(item.path_class)!r} has no colour, and QuPath refuses the file",
            f"given {source}, {tuple(color[:3])}",
        )
        return replace(item, path_class=PathClass(item.path_class.names, color))

    def _outlines(self, item: SlideObject, where: str) -> SlideObject | None:
        """The object with sound outlines on the slide; ``None`` if nothing is left of it."""
        if item.nucleus is not None:
            nucleus = self._sound(item.nucleus, f"{where}, nucleus")
            item = replace(item, nucleus=nucleus)
        if item.outline is None:
            return item
        outline = self._sound(item.outline, where)
        if outline is not None and self._size_px is not None:
            outline = self._on_slide(outline, self._size_px, where)
        return None if outline is None else replace(item, outline=outline)

    def _sound(self, outline: Outline, where: str) -> Outline | None:
        shape = outline.geometry
        if not outline.is_area or shape.is_valid:
            return outline
        try:
            made = _areas_of(sound_area(shape))
        except InputError as error:
            self.tell(where, Fault.INVALID, str(error), "left out")
            return None
        if made is None:
            self.tell(where, Fault.EMPTY, "outline encloses no area", "left out")
            return None
        reason = shapely.is_valid_reason(shape)
        done = f"made valid, {shape.area:.6g} -> {made.area:.6g} px² in {_count(made)}"
        self.tell(where, Fault.INVALID, f"outline is invalid: {reason}", done)
        return Outline.of(made, outline.plane)

    def _on_slide(self, outline: Outline, size_px: tuple[int, int], where: str) -> Outline | None:
        shape = outline.geometry
        width, height = size_px
        x0, y0, x1, y1 = shape.bounds
        if min(x0, y0, width - x1, height - y1) >= -EDGE_SLACK_PX:
            return outline
        x0, y0, x1, y1 = (round(v, 1) for v in shape.bounds)
        text = (
            f"reaches from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}) on a slide of {width} x {height} px"
        )
        inside = shape.intersection(box(0, 0, width, height))
        kept = _areas_of(inside) if outline.is_area else inside
        if kept is None or kept.is_empty:
            self.tell(where, Fault.OFF_SLIDE, text, "left out: nothing of it is on the slide")
            return None
        self.tell(where, Fault.OFF_SLIDE, text, "cut at the slide's edge")
        return Outline.of(kept, outline.plane)

    def _repeats(self, item: SlideObject, where: str) -> UUID | None:
        """The id of the object this one repeats and that says all it says, ``None`` = keep it."""
        if item.outline is None:
            return None
        names = None if item.path_class is None else item.path_class.names
        shape = item.outline.geometry.normalize().wkb
        key = (item.kind, names, item.outline.plane, shape)
        first = self._seen.setdefault(key, item)
        if first is item:
            self._places[item.id] = where
            return None
        text = f"same outline and class as {self._places[first.id]}"
        more = _says_more(item, first)
        if more:
            self.tell(where, Fault.DUPLICATE, f"{text}, but another {more}: keep which one?")
            return None
        self.tell(where, Fault.DUPLICATE, text, "left out")
        return first.id


def _is_root(raw: dict[str, Any]) -> bool:
    properties = raw.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    for name in (
        *(properties.get(k) for k in ("objectType", "object_type", "type")),
        raw.get("id"),
    ):
        if name is not None:
            return isinstance(name, str) and name in ROOTS
    return False


def _levels(given: Any) -> Iterator[str]:
    """The level names of a raw classification, as written."""
    if isinstance(given, str) and given:
        yield from given.split(CLASS_SEPARATOR)
    elif isinstance(given, dict):
        yield from _levels(given.get("parentClass"))
        name, names = given.get("name"), given.get("names")
        if isinstance(name, str):
            yield from name.split(CLASS_SEPARATOR)
        elif isinstance(names, list):
            yield from (level for level in names if isinstance(level, str))


def _split(level: str) -> list[str]:
    return level.replace("\r", "\n").replace(":", "\n").split("\n")


def _colors_in(items: list[dict[str, Any] | str]) -> dict[tuple[str, ...], Color]:
    """Colours that classes have anywhere in a file, by level names."""
    found: dict[tuple[str, ...], Color] = {}
    reader = FeatureReader([], Counter())
    for item in items:
        if isinstance(item, dict):
            for obj in reader.read(item, ""):
                if obj.path_class is not None and obj.path_class.color is not None:
                    found.setdefault(obj.path_class.names, obj.path_class.color)
    return found


def _areas_of(shape: BaseGeometry) -> Polygon | MultiPolygon | None:
    """The areas of a geometry without the lines and points that repairing and cutting leave."""
    parts = [p for p in shapely.get_parts(shape).tolist() if isinstance(p, Polygon) and p.area > 0]
    parts += [
        q
        for p in shapely.get_parts(shape).tolist()
        if isinstance(p, MultiPolygon)
        for q in p.geoms
        if q.area > 0
    ]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _count(shape: Polygon | MultiPolygon) -> str:
    n = len(shapely.get_parts(shape))
    return "one part" if n == 1 else f"{n} parts"


def _says_more(item: SlideObject, first: SlideObject) -> str:
    """What an object says that the other does not, ``""`` = nothing."""
    if item.name is not None and item.name != first.name:
        return "name"
    if item.locked and not first.locked:
        return "lock"
    if item.color is not None and item.color != first.color:
        return "colour"
    for key, number in item.measurements.items():
        known = first.measurements.get(key, math.nan)
        if known != number and not math.isnan(number):
            return f"measurement {key!r}"
    for key, text in item.metadata.items():
        if first.metadata.get(key) != text:
            return f"metadata {key!r}"
    if item.nucleus is not None and (
        first.nucleus is None or not first.nucleus.geometry.equals(item.nucleus.geometry)
    ):
        return "nucleus"
    if item.kind is ObjectKind.TMA_CORE and item.missing != first.missing:
        return "missing flag"
    return ""
