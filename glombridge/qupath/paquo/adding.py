"""New objects from the plain values of slide objects, column by column. Runs in the worker."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from ...objects import ObjectKind, Outline, OutlineKind, PathClass, SlideObject
from . import java
from .java_columns import ObjectArray, RoiArray, Rows

_BOXES = (OutlineKind.RECTANGLE, OutlineKind.ELLIPSE)


# All at once: objects lie scattered in memory, and each look at them all costs as much as the first.
_FIELDS = attrgetter(
    "kind",
    "outline",
    "nucleus",
    "id.int",
    "name",
    "color",
    "locked",
    "path_class",
    "probability",
    "measurements",
    "metadata",
)
_OUTLINE_FIELDS = attrgetter("kind", "geometry", "plane")


def make(added: Sequence[SlideObject]) -> ObjectArray:
    """QuPath's objects with everything that belongs to them but their children."""
    (
        kinds,
        outlines,
        nuclei,
        ids,
        names,
        colors,
        locked,
        classes,
        probabilities,
        measurements,
        metadata,
    ) = zip(*map(_FIELDS, added), strict=True)
    made = ObjectArray(len(added))
    rois, nucleus_rois = _rois(outlines), _rois(nuclei)
    for kind in ObjectKind:
        rows = _where(k is kind for k in kinds)
        if len(rows):
            made.create(kind.value, rows, rois, nucleus_rois)
    halves = np.frombuffer(b"".join([i.to_bytes(16, "big") for i in ids]), dtype=">i8")
    made.set_ids(halves.astype(np.int64).reshape(-1, 2))
    _classify(made, classes, probabilities)
    made.set_names(*_given(names))
    rows, chosen = _given(colors)
    made.set_colors(rows, [color.to_argb() for color in chosen])
    made.lock(_where(locked))
    owners, keys, values = _pairs(measurements)
    made.put_measurements(owners, keys, np.fromiter(values, np.float64, len(keys)))
    owners, keys, texts = _pairs(metadata)
    made.put_metadata(owners, keys, list(texts))
    return made


def _where(chosen: Iterable[bool]) -> Rows:
    return np.flatnonzero(np.fromiter(chosen, dtype=np.bool_))


def _given(values: Sequence[Any]) -> tuple[Rows, list[Any]]:
    """Rows and values of those that are there."""
    found = [value for value in values if value is not None]
    return _where(value is not None for value in values), found


def _array(rows: Iterable[int]) -> Rows:
    return np.fromiter(rows, dtype=np.int64)


def _pairs(given: Sequence[Mapping[str, Any]]) -> tuple[Rows, list[str], Iterable[Any]]:
    """All items one after another: row of the object, key and value."""
    counts = _array(map(len, given))
    keys = list(chain.from_iterable(given))
    values = chain.from_iterable(one.values() for one in given)
    return np.repeat(np.arange(len(given)), counts), keys, values


def _classify(
    made: ObjectArray, given: Sequence[PathClass | None], chances: Sequence[float]
) -> None:
    places: dict[tuple[str, ...], int] = {}
    classes: list[Any] = [None]
    rows, chosen, probabilities = [], [], []
    for row, (path_class, probability) in enumerate(zip(given, chances, strict=True)):
        place = 0
        if path_class is not None:
            place = places.get(path_class.names, 0)
            if not place:
                place = places[path_class.names] = len(classes)
                argb = None if path_class.color is None else path_class.color.to_argb()
                classes.append(java.path_class(path_class.names, argb))
        elif math.isnan(probability):
            # It keeps what QuPath gives a new object.
            continue
        rows.append(row)
        chosen.append(place)
        probabilities.append(probability)
    made.set_classes(_array(rows), classes, _array(chosen), np.array(probabilities, dtype=float))


def _rois(outlines: Sequence[Outline | None]) -> RoiArray:
    """QuPath's ROIs with exactly the coordinates of outlines in stored form."""
    rois = RoiArray(len(outlines))
    there, found = _given(outlines)
    if not found:
        return rois
    kinds, all_geometries, all_planes = zip(*map(_OUTLINE_FIELDS, found), strict=True)
    for kind in OutlineKind:
        places = _where(k is kind for k in kinds)
        if not len(places):
            continue
        rows = there[places]
        planes = [all_planes[i] for i in places.tolist()]
        geometries = np.empty(len(places), dtype=object)
        geometries[:] = [all_geometries[i] for i in places.tolist()]
        if kind is OutlineKind.GEOMETRY:
            wkb = shapely.to_wkb(geometries, output_dimension=2).tolist()
            rois.add_geometries(rows, wkb, planes)
            continue
        if kind in _BOXES:
            bounds = shapely.bounds(geometries)
            start, end = bounds[:, :2], bounds[:, 2:]
            numbers = np.column_stack([start, extents(start, end)])
            rois.add_boxes(kind, rows, numbers, planes)
            continue
        xy, owners = shapely.get_coordinates(geometries, return_index=True)
        if kind is OutlineKind.LINE:
            rois.add_boxes(kind, rows, xy.reshape(-1, 4), planes)
            continue
        counts = np.bincount(owners, minlength=len(rows))
        if kind is OutlineKind.POLYGON:
            # QuPath closes a ring itself.
            xy = np.delete(xy, np.cumsum(counts) - 1, axis=0)
            counts = counts - 1
        rois.add_points(kind, rows, xy, counts, planes)
    return rois


def extents(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """The widths with which QuPath, which adds them to the start, comes to exactly these ends."""
    width: NDArray[np.float64] = end - start
    # The later wins, so the plain difference does where it is right.
    found: NDArray[np.float64] = width.copy()
    for candidate in (np.nextafter(width, -np.inf), np.nextafter(width, np.inf), width):
        fits = start + candidate == end
        found[fits] = candidate[fits]
    return found
