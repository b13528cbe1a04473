"""Outlines from the nodes of QuPath's ROI classes.

Rings are collected first and built in bulk, which is several times faster than one by one.
"""

from __future__ import annotations

import struct

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, MultiPoint, Point, Polygon
from shapely.geometry.base import BaseGeometry

from ..documents import parse_wkb
from ..objects import FARTHEST_PX, Outline, OutlineKind, Plane, is_in_reach
from . import descriptors as d
from .javastream import Content, JavaArray, JavaObject

_BOX = struct.Struct(">iiddddi")
_PLANE = struct.Struct(">iii")
_CHUNK = 20_000  # polygons built at once, which bounds what their building needs beside them
_KIND_OF_BOX = {
    d.RECTANGLE: OutlineKind.RECTANGLE,
    d.ELLIPSE: OutlineKind.ELLIPSE,
    d.LINE: OutlineKind.LINE,
}


class OpaqueError(ValueError):
    """A part of an object that is not understood; the message says why."""


class OutlineBatch:
    """Collects outlines and builds them together."""

    def __init__(self) -> None:
        self._done: list[Outline | OpaqueError | None] = []
        self._boxes: list[tuple[int, OutlineKind, Plane, NDArray[np.float64]]] = []
        self._polygons: list[tuple[int, Plane, bytes, bytes]] = []
        self._planes: dict[Plane, Plane] = {}

    def add(self, roi: JavaObject) -> int:
        """Take an outline in; returns its place in the result of :meth:`build`.

        Raises:
            OpaqueError: a class that is not known, or values that make no outline.
        """
        name = roi.desc.name
        place = len(self._done)
        if name in _KIND_OF_BOX:
            self._done.append(None)
            self._add_box(place, roi, _KIND_OF_BOX[name])
        elif name == d.POLYGON:
            plane, x, y = _coordinates(roi)
            self._done.append(None)
            # Many objects have the same plane; one is enough.
            plane = self._planes.setdefault(plane, plane)
            self._polygons.append((place, plane, *_raw_xy(x, y)))
        else:
            self._done.append(_decode_other(roi))
        return place

    def _add_box(self, place: int, roi: JavaObject, kind: OutlineKind) -> None:
        c, t, x, x2, y, y2, z = _BOX.unpack(_raw(roi))
        plane = Plane(c, z, t)
        if not is_in_reach(np.array((x, x2, y, y2))):
            self._done[place] = OpaqueError("coordinates are not finite, or beyond 2^31 px")
        elif kind is OutlineKind.LINE:
            self._done[place] = Outline(LineString([(x, y), (x2, y2)]), kind, plane)
        elif kind is OutlineKind.ELLIPSE:
            self._done[place] = Outline.ellipse(x, y, x2, y2, plane)
        else:
            self._boxes.append((place, kind, plane, box_ring(x, y, x2, y2)))

    def build(self) -> list[Outline | OpaqueError]:
        """Every outline, or why it is none, in the order added."""
        if self._boxes:
            built = polygons_of([box[3] for box in self._boxes])
            for (place, kind, plane, _), polygon in zip(self._boxes, built, strict=True):
                self._done[place] = Outline(polygon, kind, plane)
        for start in range(0, len(self._polygons), _CHUNK):
            self._build_polygons(self._polygons[start : start + _CHUNK])
        return [found for found in self._done if found is not None]

    def _build_polygons(self, chunk: list[tuple[int, Plane, bytes, bytes]]) -> None:
        counts = np.array([len(x) // 4 for _, _, x, _ in chunk], np.intp)
        starts = np.cumsum(counts) - counts
        xy = np.empty((int(counts.sum()), 2))
        xy[:, 0] = np.frombuffer(b"".join([x for _, _, x, _ in chunk]), ">f4")
        xy[:, 1] = np.frombuffer(b"".join([y for _, _, _, y in chunk]), ">f4")
        # A ring may repeat its first point at the end; shapely wants it to.
        last = np.maximum(starts + counts - 1, 0)
        is_closed = counts > 1
        is_closed[is_closed] = (xy[starts[is_closed]] == xy[last[is_closed]]).all(axis=1)
        opened = counts - is_closed
        bad_before = np.concatenate([[0], np.cumsum(~(np.abs(xy) <= FARTHEST_PX).all(axis=1))])
        is_finite = bad_before[starts + counts] == bad_before[starts]
        usable = np.flatnonzero(is_finite & (opened >= 3))
        lengths = opened[usable] + 1
        offset = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        offset[offset == np.repeat(lengths - 1, lengths)] = 0  # the first point once more
        rings = shapely.linearrings(
            xy[np.repeat(starts[usable], lengths) + offset],
            indices=np.repeat(np.arange(len(usable)), lengths),
        )
        built = np.asarray(shapely.polygons(rings), dtype=object)
        polygons = dict(zip(usable.tolist(), built, strict=True))
        for i, (place, plane, _, _) in enumerate(chunk):
            if i in polygons:
                self._done[place] = Outline(polygons[i], OutlineKind.POLYGON, plane)
            elif opened[i] < 3:
                self._done[place] = OpaqueError(f"polygon with {opened[i]} points")
            else:
                self._done[place] = OpaqueError("coordinates are not finite, or beyond 2^31 px")


def box_ring(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float64]:
    """The open ring of a rectangle, shape (4, 2)."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def polygons_of(rings: list[NDArray[np.float64]]) -> list[Polygon]:
    """Polygons without holes from open rings of at least 3 points, shape (n, 2) each."""
    # Closed here, because shapely does not close a ring whose points are all the same.
    indices = np.repeat(np.arange(len(rings)), [len(r) + 1 for r in rings])
    xy = np.concatenate([part for r in rings for part in (r, r[:1])])
    closed = shapely.linearrings(xy, indices=indices)
    built = np.asarray(shapely.polygons(closed), dtype=object)
    return list(built)


def _decode_other(roi: JavaObject) -> Outline:
    name = roi.desc.name
    if name == d.GEOMETRY:
        return _decode_geometry(roi)
    if name == d.AREA:
        return _decode_area(roi)
    if name not in (d.POLYLINE, d.POINTS):
        msg = f"outline class {name} is not known"
        raise OpaqueError(msg)
    plane, x, y = _coordinates(roi)
    xy = _xy(x, y)
    if not is_in_reach(xy):
        msg = "coordinates are not finite, or beyond 2^31 px"
        raise OpaqueError(msg)
    if name == d.POINTS:
        # A single point is a Point, not a MultiPoint of one, as in QuPath's own geometry.
        points = Point(xy[0]) if len(xy) == 1 else MultiPoint(xy)
        return Outline(points, OutlineKind.POINTS, plane)
    if len(xy) < 2:
        msg = f"polyline with {len(xy)} points"
        raise OpaqueError(msg)
    return Outline(LineString(xy), OutlineKind.POLYLINE, plane)


def _decode_geometry(roi: JavaObject) -> Outline:
    wkb = roi.parts[0][2]
    if not isinstance(wkb, JavaArray) or wkb.raw is None:
        msg = "geometry without content"
        raise OpaqueError(msg)
    try:
        geometry = parse_wkb(wkb.raw)
    except ValueError as error:
        msg = f"geometry that cannot be read ({error})"
        raise OpaqueError(msg) from error
    if not is_in_reach(shapely.get_coordinates(geometry)):
        msg = "coordinates are not finite, or beyond 2^31 px"
        raise OpaqueError(msg)
    return Outline(shapely.force_2d(geometry), OutlineKind.GEOMETRY, _plane(roi))


def _decode_area(roi: JavaObject) -> Outline:
    """The legacy area of QuPath 0.1: several rings with the non-zero winding rule."""
    x_rings, y_rings = (_arrays(part) for part in roi.parts[0][-2:])
    rings = [_open_xy(x, y) for x, y in zip(x_rings, y_rings, strict=True)]
    closed = [np.vstack([r, r[:1]]) for r in rings if len(r) >= 3]
    if not closed or not all(is_in_reach(r) for r in closed):
        msg = "area without finite rings"
        raise OpaqueError(msg)
    edges = shapely.union_all([LineString(r) for r in closed])
    faces: list[BaseGeometry] = []
    for face in shapely.get_parts(shapely.polygonize([edges])):
        point = shapely.point_on_surface(face)
        if sum(_winding(ring, point.x, point.y) for ring in closed):
            faces.append(face)
    if not faces:
        msg = "area without extent"
        raise OpaqueError(msg)
    return Outline(shapely.union_all(faces), OutlineKind.GEOMETRY, _plane(roi))


def _winding(ring: NDArray[np.float64], x: float, y: float) -> int:
    """How often a closed ring goes around a point, counterclockwise positive."""
    x0, y0, x1, y1 = ring[:-1, 0], ring[:-1, 1], ring[1:, 0], ring[1:, 1]
    side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
    up, down = (y0 <= y) & (y1 > y) & (side > 0), (y0 > y) & (y1 <= y) & (side < 0)
    return int(up.sum()) - int(down.sum())


def _arrays(node: Content) -> list[Content]:
    if not isinstance(node, JavaArray) or node.items is None:
        msg = "area without rings"
        raise OpaqueError(msg)
    return node.items


def _raw(node: JavaObject) -> bytes:
    raw = node.parts[0][0]
    return raw if isinstance(raw, bytes) else b""


def _plane(roi: JavaObject) -> Plane:
    c, t, z = _PLANE.unpack(_raw(roi))
    return Plane(c, z, t)


def _coordinates(roi: JavaObject) -> tuple[Plane, Content, Content]:
    x, y = roi.parts[0][-2:]
    return _plane(roi), x, y


def _raw_xy(x: Content, y: Content) -> tuple[bytes, bytes]:
    if not (isinstance(x, JavaArray) and isinstance(y, JavaArray)):
        msg = "outline without coordinates"
        raise OpaqueError(msg)
    if x.raw is None or y.raw is None or len(x.raw) != len(y.raw) or x.desc.name != d.FLOATS:
        msg = "outline with x and y of different kinds or lengths"
        raise OpaqueError(msg)
    return x.raw, y.raw


def _xy(x: Content, y: Content) -> NDArray[np.float64]:
    raw_x, raw_y = _raw_xy(x, y)
    xy = np.empty((len(raw_x) // 4, 2))
    xy[:, 0] = np.frombuffer(raw_x, ">f4")
    xy[:, 1] = np.frombuffer(raw_y, ">f4")
    return xy


def _open_xy(x: Content, y: Content) -> NDArray[np.float64]:
    return open_ring(_xy(x, y))


def open_ring(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring without the repetition of its first point at the end, where it has one."""
    if len(ring) > 1 and ring[0, 0] == ring[-1, 0] and ring[0, 1] == ring[-1, 1]:
        return ring[:-1]
    return ring
