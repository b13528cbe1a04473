"""One closed ring for any area, and back: YOLO's segmentation labels know nothing else.

A label line of ultralytics is the corners of one polygon: no holes, no separate parts. Both are
joined to it by a bridge, a line that is walked there and back. Bridges enclose nothing, and holes
are walked the other way round than the outside, so the ring's area is the geometry's own, its
filling (by the even-odd rule, as OpenCV fills and ultralytics trains) the geometry's, and it can be
taken apart again. Parts are joined in the same way by ultralytics' own COCO converter
(``merge_multi_segment``); it has no rule for holes.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from shapely.geometry import GeometryCollection, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from ..objects import sound_area

Ring = NDArray[np.float64]
"""Corners, shape (n, 2), without the first repeated at the end."""


def ring_of(area: BaseGeometry) -> Ring:
    """The corners of one ring that encloses an area.

    Bridges run between the nearest corners of two rings, shortest first.

    Args:
        area: polygons, with or without holes; lines and points in it are left out.

    Returns:
        Shape (n, 2); n is 0 where nothing is enclosed.
    """
    rings: list[Ring] = []
    for polygon in polygons_of(area):
        turned = orient(polygon)  # the outside one way round, holes the other
        rings += [
            shapely.get_coordinates(ring)[:-1] for ring in (turned.exterior, *turned.interiors)
        ]
    if not rings:
        return np.empty((0, 2))
    joined = rings.pop(0)
    while rings:
        tree = cKDTree(joined)
        nearest = [tree.query(ring) for ring in rings]
        k = int(np.argmin([distances.min() for distances, _ in nearest]))
        there = int(nearest[k][0].argmin())
        here = int(nearest[k][1][there])
        other = np.roll(rings.pop(k), -there, axis=0)
        # There, once round, back to where it was left, and over the bridge again.
        joined = np.concatenate(
            [joined[: here + 1], other, other[:1], joined[here : here + 1], joined[here + 1 :]]
        )
    return joined


def area_of(ring: ArrayLike) -> BaseGeometry:
    """The area a ring of :func:`ring_of` encloses, its bridges removed.

    Args:
        ring: corners, shape (n, 2).

    Returns:
        A polygon or multipolygon; empty where nothing is enclosed.
    """
    corners = np.asarray(ring, float).reshape(-1, 2)
    if len(corners) < 3:
        return Polygon()
    parts = polygons_of(sound_area(Polygon(corners)))
    if len(parts) == 1:
        return parts[0]
    united: BaseGeometry = shapely.union_all(parts) if parts else Polygon()
    return united


def polygons_of(area: BaseGeometry) -> list[Polygon]:
    """The polygons an area is made of, without points, lines and what encloses nothing."""
    found: list[Polygon] = []
    for part in shapely.get_parts(area):
        if isinstance(part, Polygon):
            found += [part] if part.area > 0 else []
        elif isinstance(part, MultiPolygon | GeometryCollection):
            found += polygons_of(part)
    return found
