"""What becomes of a slide object in a data file: checks, and the rounding of its numbers.

QuPath keeps some coordinates and measurements with 32 bits. An object is compared with a file only
in the form the file can hold, so that writing the same object twice changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, MultiPoint, Point, Polygon

from ..errors import InputError
from ..objects import (
    Color,
    ObjectKind,
    Outline,
    OutlineKind,
    SlideObject,
    check_class_level,
    same_measurements,
    same_number,
)
from .decoding import OBJECT_ID
from .outline_decoding import box_ring, open_ring, polygons_of

FLOAT_KINDS = frozenset({ObjectKind.DETECTION, ObjectKind.CELL, ObjectKind.TILE})
"""Kinds whose measurements QuPath keeps with 32 bits."""

_INT_MAX = 2**31 - 1


def as_stored(obj: SlideObject, *, wide: bool | None = None) -> SlideObject:
    """The object as a file will hold it.

    Args:
        obj: what was asked for.
        wide: whether measurements take 64 bits; ``None`` = by the kind of the object.

    Raises:
        InputError: QuPath could not read it back, or would read something else.
    """
    try:
        return _as_stored(obj, obj.kind not in FLOAT_KINDS if wide is None else wide)
    except InputError as error:
        title = f" {obj.name!r}" if obj.name else ""
        msg = f"{obj.kind.value}{title} with id {obj.id} cannot be written: {error}"
        raise InputError(msg) from error


def _as_stored(obj: SlideObject, wide: bool) -> SlideObject:
    if obj.path_class is not None:
        for name in obj.path_class.names:
            check_class_level(name)
        _check_color(obj.path_class.color)
    _check_color(obj.color)
    if obj.nucleus is not None and obj.kind is not ObjectKind.CELL:
        msg = "only a cell has a nucleus; leave it out or make the object a cell."
        raise InputError(msg)
    if obj.missing and obj.kind is not ObjectKind.TMA_CORE:
        msg = "only a TMA core can be missing."
        raise InputError(msg)
    return replace(
        obj,
        outline=None if obj.outline is None else stored_outline(obj.outline),
        nucleus=None if obj.nucleus is None else stored_outline(obj.nucleus),
        measurements=_stored_measurements(obj.measurements, wide),
        metadata=_checked_metadata(obj.metadata),
        probability=float(obj.probability),
        id_is_stored=True,
    )


def _check_color(color: Color | None) -> None:
    if color is not None and not all(0 <= channel <= 255 for channel in color):
        msg = f"colour {tuple(color)} has a channel outside 0 to 255."
        raise InputError(msg)


def _stored_measurements(given: Mapping[str, float], wide: bool) -> dict[str, float]:
    found = {}
    for name, value in given.items():
        if not name:
            msg = "a measurement has no name; give it one or leave it out."
            raise InputError(msg)
        number = float(value)
        if not wide and math.isfinite(number):
            with np.errstate(over="ignore"):
                number = float(np.float32(number))
            if math.isinf(number):
                msg = f"measurement {name!r} is {value}, more than a 32-bit number can hold."
                raise InputError(msg)
        found[name] = number
    return found


def _checked_metadata(given: Mapping[str, str]) -> dict[str, str]:
    for key, text in given.items():
        value: object = text  # a caller without a type checker may give anything
        if not key or key == OBJECT_ID:
            msg = f"metadata key {key!r} is not possible; the id is kept in the object's own field."
            raise InputError(msg)
        if not isinstance(value, str):
            msg = f"metadata {key!r} is {value!r}, which is not a text; convert it with str()."
            raise InputError(msg)
    return dict(given)


def stored_outline(outline: Outline) -> Outline:
    """The outline with the precision and vertex order of the file.

    Raises:
        InputError: the geometry does not fit its kind, is empty, or is not finite.
    """
    geometry, kind, plane = outline.geometry, outline.kind, outline.plane
    if not (-1 <= plane.c <= _INT_MAX and 0 <= plane.z <= _INT_MAX and 0 <= plane.t <= _INT_MAX):
        msg = f"{tuple(plane)} is no plane; channel is at least -1, slice and time at least 0."
        raise InputError(msg)
    xy = shapely.get_coordinates(geometry)
    if not len(xy) or not np.isfinite(xy).all():
        msg = "its outline is empty or has coordinates that are not finite numbers."
        raise InputError(msg)
    if kind is OutlineKind.RECTANGLE and _is_box(outline):
        return Outline(polygons_of([box_ring(*outline.bounds)])[0], kind, plane)
    if kind is OutlineKind.ELLIPSE and _is_ellipse(outline):
        return Outline.ellipse(*outline.bounds, plane)
    if kind is OutlineKind.POLYGON and isinstance(geometry, Polygon) and not geometry.interiors:
        ring = stored_ring(outline)
        if len(ring) < 3:
            msg = f"its polygon has {len(ring)} different points, and needs 3."
            raise InputError(msg)
        return Outline(polygons_of([ring])[0], kind, plane)
    if kind is OutlineKind.LINE and isinstance(geometry, LineString) and len(xy) == 2:
        return Outline(LineString(xy), kind, plane)
    if kind is OutlineKind.POLYLINE and isinstance(geometry, LineString):
        return Outline(LineString(_as_float32(xy)), kind, plane)
    if kind is OutlineKind.POINTS and isinstance(geometry, Point | MultiPoint):
        xy = _as_float32(xy)
        points = Point(xy[0]) if len(xy) == 1 else MultiPoint(xy)
        return Outline(points, kind, plane)
    if kind is OutlineKind.GEOMETRY:
        if not geometry.is_valid:
            # QuPath 0.6 and later round such outlines when reading, which can fail on an invalid
            # one and would take the whole image with it.
            reason = shapely.is_valid_reason(geometry)
            msg = f"its outline is not valid ({reason}); repair it with shapely.make_valid."
            raise InputError(msg)
        return Outline(shapely.force_2d(geometry), kind, plane)
    msg = (
        f"its outline of kind {kind.value} holds a {geometry.geom_type} that is none "
        f"({geometry.wkt[:60]}...); choose the kind with Outline.of()."
    )
    raise InputError(msg)


def stored_ring(outline: Outline) -> NDArray[np.float64]:
    """The open ring of a polygon without holes, rounded to 32 bits, shape (n, 2)."""
    ring = shapely.get_coordinates(shapely.get_exterior_ring(outline.geometry))[:-1]
    ring = _as_float32(ring)
    # Rounding may make further points at the end equal to the first.
    while len(shorter := open_ring(ring)) < len(ring):
        ring = shorter
    return ring


def _as_float32(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        rounded: NDArray[np.float64] = xy.astype(np.float32).astype(np.float64)
    if not np.isfinite(rounded).all():
        msg = f"its coordinates reach {np.abs(xy).max():g}, more than the file can hold."
        raise InputError(msg)
    return rounded


def _is_box(outline: Outline) -> bool:
    if not isinstance(outline.geometry, Polygon) or outline.geometry.interiors:
        return False
    x0, y0, x1, y1 = outline.bounds
    ring = shapely.get_coordinates(outline.geometry)
    on_corners = np.isin(ring[:, 0], (x0, x1)).all() and np.isin(ring[:, 1], (y0, y1)).all()
    # shapely does not close the ring of a rectangle without extent.
    return bool(on_corners) and len(ring) in (4, 5)


def _is_ellipse(outline: Outline) -> bool:
    given = shapely.get_coordinates(outline.geometry)
    ideal = shapely.get_coordinates(Outline.ellipse(*outline.bounds).geometry)
    if given.shape != ideal.shape:
        return False
    return bool(np.allclose(given, ideal, rtol=1e-9, atol=1e-3))


def differences(found: SlideObject, asked: SlideObject) -> list[str]:
    """Names of the fields in which two objects differ; the id and where it is kept do not count."""
    parts = {
        "kind": found.kind is asked.kind,
        "outline": found.outline == asked.outline,
        "path_class": found.path_class == asked.path_class,
        "name": found.name == asked.name,
        "color": found.color == asked.color,
        "locked": found.locked == asked.locked,
        "measurements": same_measurements(found.measurements, asked.measurements),
        "metadata": dict(found.metadata) == dict(asked.metadata),
        "probability": same_number(found.probability, asked.probability),
        "nucleus": found.nucleus == asked.nucleus,
        "missing": found.missing == asked.missing,
    }
    return [name for name, same in parts.items() if not same]


def same_box(found: SlideObject, asked: SlideObject) -> bool:
    """Whether a rectangle or ellipse is the one asked for, but for the last bit of its far edges.

    QuPath makes them of a start and a width, and not every end is the sum of some width and its start:
    no double added to 221.97 gives 510.33. What was in the file before is not made anew, and must be equal.
    """
    a, b = found.outline, asked.outline
    if a is None or b is None or a.kind is not b.kind or a.plane != b.plane:
        return False
    if a.kind not in (OutlineKind.RECTANGLE, OutlineKind.ELLIPSE):
        return False
    return a.bounds[:2] == b.bounds[:2] and all(
        math.isclose(x, y, rel_tol=4e-16) for x, y in zip(a.bounds[2:], b.bounds[2:], strict=True)
    )
