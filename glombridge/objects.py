"""The slide object: the one type that enters at the QuPath project and leaves there again.

Coordinates are pixels of the full-resolution image in QuPath's frame, x to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple
from uuid import UUID

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import (
    LineString,
    MultiPoint,
    MultiPolygon,
    Point,
    Polygon,
)
from shapely.geometry.base import BaseGeometry

from .errors import InputError

CLASS_SEPARATOR = ": "
"""Joins the levels of a derived class in its display text, as QuPath writes it."""

ELLIPSE_SEGMENTS = 64
"""Vertices of the polygon that stands for an ellipse; a multiple of 4, so its bounds are exact."""

_PER_PX = 100
"""QuPath keeps hundredths of a pixel: 0.6 and later round geometries to that when they read them."""


FARTHEST_PX = 2.0**31
"""Of a coordinate from 0: a side of an image is a Java int. Beyond it, areas overflow."""

MOST_CROSSINGS = 1000
"""Of an outline with itself that are still repaired. A hand makes a few; GEOS takes seconds for a star of
71 corners, whose edges cross 2,414 times, and half a minute for one of 151."""

_PAIRS_AT_ONCE = 5_000_000


class ObjectKind(str, Enum):
    """What kind of QuPath object it is."""

    ANNOTATION = "annotation"
    DETECTION = "detection"
    CELL = "cell"
    TILE = "tile"
    TMA_CORE = "tma_core"


class OutlineKind(str, Enum):
    """How QuPath stores the outline; a kind is kept so that a rectangle stays a rectangle."""

    RECTANGLE = "rectangle"
    ELLIPSE = "ellipse"
    POLYGON = "polygon"
    GEOMETRY = "geometry"
    LINE = "line"
    POLYLINE = "polyline"
    POINTS = "points"


class Color(NamedTuple):
    """A colour, each channel 0 to 255."""

    red: int
    green: int
    blue: int
    alpha: int = 255

    @classmethod
    def from_argb(cls, value: int) -> Color:
        """From QuPath's packed 32-bit integer, signed or unsigned."""
        value &= 0xFFFFFFFF
        return cls((value >> 16) & 255, (value >> 8) & 255, value & 255, value >> 24)

    def to_argb(self) -> int:
        """QuPath's packed integer, signed 32-bit as Java writes it."""
        value = (self.alpha << 24) | (self.red << 16) | (self.green << 8) | self.blue
        return value - (1 << 32) if value >= 1 << 31 else value


class Plane(NamedTuple):
    """Channel (-1 = all, the normal case), z slice and time point, the latter two from 0."""

    c: int = -1
    z: int = 0
    t: int = 0


def check_class_level(name: str) -> None:
    """Refuse a class level name that some QuPath version cannot read back.

    One such name makes QuPath 0.5 to 0.7 open the whole image as empty, without an error.

    Raises:
        InputError: the name is empty, blank, has a space at an end, or holds ``:`` or a line break.
    """
    if not name.strip() or name != name.strip() or any(c in name for c in ":\r\n"):
        msg = (
            f"class name {name!r} cannot be read back by QuPath: a level of a class name must not "
            "be empty, begin or end with a space, or contain ':' or a line break. Rename the class."
        )
        raise InputError(msg)


@dataclass(frozen=True)
class PathClass:
    """A QuPath classification: its levels from base to leaf, and a display colour.

    Two classes with the same levels are equal whatever their colour, as in QuPath.
    """

    names: tuple[str, ...]
    color: Color | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.names:
            msg = "a class needs at least one name; an object without a class has path_class=None"
            raise InputError(msg)

    @classmethod
    def parse(cls, text: str, color: Color | None = None) -> PathClass:
        """From the display text, for example ``"Glomerulus: Sclerotic"``.

        Raises:
            InputError: a level that QuPath could not read back.
        """
        names = tuple(part.strip() for part in text.split(":"))
        for name in names:
            check_class_level(name)
        return cls(names, color)

    def derive(self, name: str, color: Color | None = None) -> PathClass:
        """The class one level below this one."""
        check_class_level(name)
        return PathClass((*self.names, name), color)

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels as they are shown.

        A class without a parent may be named ``A: B``: QuPath from 0.4 on keeps that as one name, earlier
        ones split it, and it looks and means the same.
        """
        return tuple(part.strip() for part in str(self).split(":"))

    def __str__(self) -> str:
        return CLASS_SEPARATOR.join(self.names)


@dataclass(frozen=True)
class Outline:
    """A geometry in image pixels, the kind QuPath stores it as, and its plane."""

    geometry: BaseGeometry
    kind: OutlineKind
    plane: Plane = field(default_factory=Plane)

    @classmethod
    def of(cls, geometry: BaseGeometry, plane: Plane = Plane()) -> Outline:
        """Choose the kind QuPath itself would choose for this geometry.

        Raises:
            InputError: an empty geometry, or coordinates that are not finite or no pixel can have.
        """
        if geometry.is_empty or not is_in_reach(shapely.get_coordinates(geometry)):
            msg = (
                "an outline must not be empty and must have finite coordinates of at most 2^31 px, got "
                f"{geometry.wkt[:120]}"
            )
            raise InputError(msg)
        if isinstance(geometry, Polygon):
            if geometry.interiors:
                kind = OutlineKind.GEOMETRY
            elif _is_axis_aligned_rectangle(geometry):
                kind = OutlineKind.RECTANGLE
            else:
                kind = OutlineKind.POLYGON
        elif isinstance(geometry, LineString):
            kind = OutlineKind.LINE if len(geometry.coords) == 2 else OutlineKind.POLYLINE
        elif isinstance(geometry, Point | MultiPoint):
            kind = OutlineKind.POINTS
        else:
            kind = OutlineKind.GEOMETRY
        return cls(geometry, kind, plane)

    @classmethod
    def rectangle(
        cls, x0: float, y0: float, x1: float, y1: float, plane: Plane = Plane()
    ) -> Outline:
        """A rectangle from its left, top, right and bottom edge, in image pixels."""
        # As Polygon does it, in a third of the time: a slide may have a million.
        ring = shapely.linearrings(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
        return cls(shapely.polygons(ring), OutlineKind.RECTANGLE, plane)

    @classmethod
    def ellipse(cls, x0: float, y0: float, x1: float, y1: float, plane: Plane = Plane()) -> Outline:
        """The ellipse inside a box; its geometry is a polygon whose bounds are exactly the box."""
        angle = np.arange(ELLIPSE_SEGMENTS) * (2 * math.pi / ELLIPSE_SEGMENTS)
        cx, cy, rx, ry = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
        xy = np.column_stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)])
        # The four extreme vertices carry the box; rounding must not move them.
        quarter = ELLIPSE_SEGMENTS // 4
        xy[0], xy[quarter] = (x1, cy), (cx, y1)
        xy[2 * quarter], xy[3 * quarter] = (x0, cy), (cx, y0)
        return cls(Polygon(xy), OutlineKind.ELLIPSE, plane)

    @classmethod
    def rounded(cls, geometry: BaseGeometry) -> Outline:
        """A valid area with its corners at hundredths of a pixel, which is what QuPath keeps.

        Raises:
            InputError: nothing is left of it.
        """
        # Snapped to the grid first, because rounding corner by corner can make lines cross.
        snapped = shapely.set_precision(geometry, 1 / _PER_PX)
        return cls.of(shapely.transform(snapped, lambda xy: np.round(xy * _PER_PX) / _PER_PX))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in image pixels."""
        return self.geometry.bounds

    @property
    def is_area(self) -> bool:
        """Whether it encloses an area (points and lines do not)."""
        return isinstance(self.geometry, Polygon | MultiPolygon)


@dataclass(frozen=True)
class SlideObject:
    """One object of a slide: outline, class, identity and everything QuPath keeps with it.

    Attributes:
        id: identity. Stable only if :attr:`id_is_stored`; QuPath 0.2 and 0.3 store none.
        outline: in full-resolution image pixels. ``None`` for a TMA core or object without one.
        path_class: classification, ``None`` = unclassified.
        color: the object's own colour, which QuPath shows instead of the class's.
        measurements: name to number; NaN is "missing".
        metadata: name to text, without the object id.
        probability: class probability, NaN = not set.
        nucleus: of a cell.
        parent: id of the parent object, ``None`` = directly under the image.
        missing: of a TMA core.
    """

    id: UUID
    kind: ObjectKind
    outline: Outline | None
    path_class: PathClass | None = None
    name: str | None = None
    color: Color | None = None
    locked: bool = False
    measurements: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    probability: float = math.nan
    nucleus: Outline | None = None
    parent: UUID | None = None
    missing: bool = False
    id_is_stored: bool = True

    def __eq__(self, other: object) -> bool:
        # The one that dataclass makes depends on the Python: up to 3.12 it takes one NaN for itself,
        # from 3.13 on none, so that nothing without a probability was equal to its own copy.
        if not isinstance(other, SlideObject):
            return NotImplemented
        mine, theirs = dict(vars(self)), dict(vars(other))
        return (
            same_number(mine.pop("probability"), theirs.pop("probability"))
            and same_measurements(mine.pop("measurements"), theirs.pop("measurements"))
            and mine == theirs
        )


def same_number(a: float, b: float) -> bool:
    """Equal, or both NaN."""
    return a == b or (math.isnan(a) and math.isnan(b))


def same_measurements(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """The same names with the same values, in any order."""
    return a.keys() == b.keys() and all(same_number(value, b[name]) for name, value in a.items())


def is_in_reach(xy: NDArray[np.float64]) -> bool:
    """Whether all coordinates are numbers that a place in an image can have."""
    # Also refuses what is no number.
    return bool((np.abs(xy) <= FARTHEST_PX).all())


def box_polygons(xyxy: NDArray[np.float64]) -> NDArray[np.object_]:
    """(N,) polygon of each of (N, 4) boxes: left, top, right, bottom."""
    left, top, right, bottom = np.asarray(xyxy, np.float64).T
    return np.asarray(shapely.box(left, top, right, bottom), object)


def sound_area(geometry: BaseGeometry) -> BaseGeometry:
    """A valid geometry of the same extent, as :func:`shapely.make_valid` makes it.

    Raises:
        InputError: it crosses itself more than :data:`MOST_CROSSINGS` times.
    """
    if geometry.is_valid:
        return geometry
    if _is_tangled(geometry):
        x0, y0, x1, y1 = geometry.bounds
        msg = (
            f"the outline from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}) px crosses itself more than "
            f"{MOST_CROSSINGS} times. Draw it anew, or delete it."
        )
        raise InputError(msg)
    return shapely.make_valid(geometry)


def _is_tangled(geometry: BaseGeometry) -> bool:
    rings = [shapely.get_coordinates(r) for r in shapely.get_rings(shapely.get_parts(geometry))]
    lines = [np.stack([xy[:-1], xy[1:]], axis=1) for xy in rings]
    if not lines:
        return False
    edges = np.asarray(shapely.linestrings(np.concatenate(lines)), object)
    tree = shapely.STRtree(list(edges))
    # Of a real tangle the first few edges tell enough.
    start, step, found = 0, 1, 0
    while start < len(edges):
        found += tree.query(edges[start : start + step], predicate="crosses").shape[1]
        if found > 2 * MOST_CROSSINGS:  # each is found from both sides
            return True
        start += step
        step = min(2 * step, max(1, _PAIRS_AT_ONCE // len(edges)))
    return False


def _is_axis_aligned_rectangle(polygon: Polygon) -> bool:
    ring = np.asarray(polygon.exterior.coords)[:, :2]
    if len(ring) != 5:
        return False
    step = np.diff(ring, axis=0)
    along_x, along_y = step[:, 1] == 0, step[:, 0] == 0
    alternates = bool((along_x[:-1] != along_x[1:]).all())
    return bool((along_x ^ along_y).all()) and alternates
