"""Geometries as they stand in a file, before shapely closes and completes what is not right."""

from __future__ import annotations

from typing import Any


def close_rings(geometry: dict[str, Any]) -> tuple[dict[str, Any] | None, int]:
    """A geometry with every ring of its polygons closed.

    Rings of fewer than three places enclose nothing and are taken out: a hole alone, a polygon's
    outer ring with the polygon. Anything that is no list of places is left as it is.

    Returns:
        The geometry, ``None`` if nothing is left of it, and how many rings had to be closed.
    """
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "GeometryCollection":
        parts = geometry.get("geometries")
        if not isinstance(parts, list):
            return geometry, 0
        closed = [close_rings(part) for part in parts if isinstance(part, dict)]
        kept = [part for part, _ in closed if part is not None]
        return ({**geometry, "geometries": kept} if kept else None), sum(n for _, n in closed)
    if not isinstance(coordinates, list):
        return geometry, 0
    if not _has_places(coordinates):
        return None, 0
    if kind == "Polygon":
        rings, unclosed = _close_polygon(coordinates)
        return ({**geometry, "coordinates": rings} if rings else None), unclosed
    if kind == "MultiPolygon":
        found = [_close_polygon(p) if isinstance(p, list) else (p, 0) for p in coordinates]
        polygons = [p for p, _ in found if p]
        return ({**geometry, "coordinates": polygons} if polygons else None), sum(
            n for _, n in found
        )
    return geometry, 0


def _close_polygon(rings: list[Any]) -> tuple[list[Any], int]:
    unclosed = 0
    kept = []
    for number, ring in enumerate(rings):
        if not isinstance(ring, list) or not all(isinstance(place, list) for place in ring):
            kept.append(ring)
            continue
        if len({tuple(map(str, place[:2])) for place in ring}) < 3:
            if number == 0:
                return [], unclosed
            continue
        if ring[0] != ring[-1]:
            unclosed += 1
            ring = [*ring, ring[0]]
        kept.append(ring)
    return kept, unclosed


def _has_places(coordinates: Any) -> bool:
    if isinstance(coordinates, list):
        return any(_has_places(item) for item in coordinates)
    return coordinates is not None
