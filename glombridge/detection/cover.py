"""The area under boxes that share their sides, as tiles of a grid do."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..objects import box_polygons
from ..tiles.grid import MOST_TILES
from .boxes import Bools, Floats

_MOST_CELLS = 4 * MOST_TILES
"""A tile's column and row each have two sides; boxes that are no tiles of a grid could make any number."""


def united_boxes(boxes: Floats, without: Floats | None = None) -> BaseGeometry:
    """What lies under boxes and under none of others, as a valid area with no more corners than it has.

    The same area as ``shapely.union_all`` gives, which looks for crossings of all sides: of tiles
    they are known. Their sides cut the plane into cells that are covered or not, and shapely makes
    polygons of the sides between the two. Coordinates are taken as they are, none is calculated.

    Args:
        boxes: (N, 4) left, top, right, bottom, in any unit.
        without: (M, 4) of the others, ``None`` = there are none.
    """
    without = np.zeros((0, 4)) if without is None else without
    every = np.concatenate([boxes, without])
    x, y = np.unique(every[:, [0, 2]]), np.unique(every[:, [1, 3]])
    if x.size * y.size > _MOST_CELLS or not np.isfinite(every).all():
        area = shapely.union_all(box_polygons(boxes))
        return shapely.difference(area, shapely.union_all(box_polygons(without)))
    covered = _covered(boxes, x, y) & ~_covered(without, x, y)
    faces = shapely.get_parts(shapely.polygonize(_outline(covered, x, y)))
    # Also what is enclosed by covered cells and is not covered itself has become a face.
    faces = faces[_are_covered(faces, covered, x, y)]
    polygons: list[shapely.Polygon] = faces.tolist()
    if len(polygons) > 1:
        return shapely.MultiPolygon(polygons)
    return polygons[0] if polygons else shapely.Polygon()


def _covered(boxes: Floats, x: Floats, y: Floats) -> Bools:
    """(rows, columns) which cells between neighbouring sides lie in a box."""
    left, right = np.sort(np.searchsorted(x, boxes[:, [0, 2]]), axis=1).T
    top, bottom = np.sort(np.searchsorted(y, boxes[:, [1, 3]]), axis=1).T
    # Each box counts from its first cell on and no longer from its end on.
    count = np.zeros((len(y), len(x)), np.int32)
    for row, column, by in (
        *((top, left, 1), (bottom, right, 1)),
        *((top, right, -1), (bottom, left, -1)),
    ):
        np.add.at(count, (row, column), by)
    np.cumsum(count, axis=0, out=count)
    np.cumsum(count, axis=1, out=count)
    return count[:-1, :-1] > 0


def _outline(covered: Bools, x: Floats, y: Floats) -> NDArray[np.object_]:
    """Lines between covered cells and others, from corner to corner, that meet at their ends only."""
    cells = np.pad(covered, 1)
    across, down = cells[1:] != cells[:-1], cells[:, 1:] != cells[:, :-1]
    is_corner = (across[:, :-1] | across[:, 1:]) & (down[:-1] | down[1:])
    row, column = np.nonzero(is_corner)
    # From a corner that a line leaves to the right, it goes to the next corner of the row.
    first = np.flatnonzero(across[row, column + 1])
    horizontal = _lines(x[column], y[row], first)
    column, row = np.nonzero(is_corner.T)
    first = np.flatnonzero(down[row + 1, column])
    return np.concatenate([horizontal, _lines(x[column], y[row], first)])


def _lines(x: Floats, y: Floats, first: NDArray[np.intp]) -> NDArray[np.object_]:
    corners = np.column_stack([x, y])
    return np.asarray(shapely.linestrings(np.stack([corners[first], corners[first + 1]], 1)))


def _are_covered(faces: NDArray[np.object_], covered: Bools, x: Floats, y: Floats) -> Bools:
    """Whether the cell in the first corner of each face, the left one of the uppermost, is covered."""
    corners, face = shapely.get_coordinates(shapely.get_exterior_ring(faces), return_index=True)
    order = np.lexsort((*corners.T, face))
    _, first = np.unique(face[order], return_index=True)
    left, top = corners[order[first]].T
    is_covered: Bools = covered[np.searchsorted(y, top), np.searchsorted(x, left)]
    return is_covered
