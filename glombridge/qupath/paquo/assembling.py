"""Slide objects from the columns QuPath gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import LineString, MultiPoint, Point

from ...documents import parse_wkb
from ...objects import Color, ObjectKind, Outline, OutlineKind, PathClass, Plane, SlideObject
from ..outline_decoding import open_ring, polygons_of
from .transfer import ObjectColumns, OutlineColumns

_OBJECT_ID = "Object ID"


def assemble(
    columns: ObjectColumns, ids: Sequence[UUID], ids_are_stored: Sequence[bool]
) -> tuple[list[SlideObject | None], list[str], list[str]]:
    """The objects in depth-first order, what is wrong with those that are ``None``, and with annotations.

    Args:
        columns: as the worker gave them.
        ids: of all objects, from the file.
        ids_are_stored: whether the file itself holds them.
    """
    classes = [
        PathClass(levels, None if argb is None else Color.from_argb(argb))
        for levels, argb in columns.classes
    ]
    outlines = dict(_outlines(columns.outlines))
    nuclei = dict(_outlines(columns.nuclei))
    parents = list(_parents(columns.child_counts))
    kinds = {kind.value: kind for kind in ObjectKind}
    found: list[SlideObject | None] = []
    problems: list[str] = []
    not_understood: list[str] = []
    measurements = _measurements(columns)
    for i, (kind, values) in enumerate(zip(columns.kinds, measurements, strict=True)):
        outline, nucleus = outlines.get(i), nuclei.get(i)
        problem = _problem(kind, kinds, outline, nucleus)
        if problem is not None:
            problems.append(f"object {i + 1} ({kind} {ids[i]}): {problem}")
            if kinds.get(kind) in (None, ObjectKind.ANNOTATION):
                not_understood.append(problems[-1])
            found.append(None)
            continue
        row, color, above = int(columns.class_rows[i]), columns.colors[i], parents[i]
        while above is not None and found[above] is None:
            above = parents[above]
        metadata = columns.metadata[i]
        found.append(
            SlideObject(
                ids[i],
                kinds[kind],
                outline if isinstance(outline, Outline) else None,
                None if row < 0 else classes[row],
                columns.names[i],
                None if color is None else Color.from_argb(color),
                columns.locked[i],
                values,
                {k: v for k, v in metadata.items() if k != _OBJECT_ID},
                float(columns.probabilities[i]),
                nucleus if isinstance(nucleus, Outline) else None,
                None if above is None else ids[above],
                i in columns.missing,
                ids_are_stored[i],
            )
        )
    return found, problems, not_understood


def _problem(
    kind: str, kinds: dict[str, ObjectKind], outline: Outline | str | None, nucleus: object
) -> str | None:
    if kind not in kinds:
        return "a kind of object that is not known"
    if isinstance(outline, str):
        return outline
    if isinstance(nucleus, str):
        return f"nucleus: {nucleus}"
    return None


def _parents(child_counts: NDArray[np.int64]) -> Iterator[int | None]:
    """Row of each object's parent; in depth-first order the numbers of children say it."""
    open_rows: list[list[int]] = []  # row, children still to come
    for row, count in enumerate(child_counts.tolist()):
        while open_rows and not open_rows[-1][1]:
            open_rows.pop()
        if open_rows:
            open_rows[-1][1] -= 1
            yield open_rows[-1][0]
        else:
            yield None
        open_rows.append([row, count])


def _measurements(columns: ObjectColumns) -> Iterator[dict[str, float]]:
    values = columns.values.tolist()
    at = 0
    for row in columns.name_rows.tolist():
        names = columns.measurement_names[row]
        yield dict(zip(names, values[at : at + len(names)], strict=True))
        at += len(names)


def _outlines(columns: OutlineColumns) -> Iterator[tuple[int, Outline | str]]:
    """Row of the object and its outline, or why it is none."""
    ends = np.cumsum(columns.counts)
    rings: list[NDArray[np.float64]] = []
    waiting: list[tuple[int, OutlineKind, Plane]] = []
    for i, (row, kind_name) in enumerate(zip(columns.rows.tolist(), columns.kinds, strict=True)):
        kind = OutlineKind(kind_name)
        plane = Plane(*columns.planes[i].tolist())
        if i in columns.wkb:
            yield row, Outline(parse_wkb(columns.wkb[i]), kind, plane)
            continue
        xy = columns.xy[ends[i] - columns.counts[i] : ends[i]]
        if not len(xy) or not np.isfinite(xy).all():
            yield row, "coordinates are not finite" if len(xy) else "an outline without points"
        elif kind is OutlineKind.POLYGON:
            ring = open_ring(xy)
            if len(ring) < 3:
                yield row, f"polygon with {len(ring)} points"
            else:
                rings.append(ring)
                waiting.append((row, kind, plane))
        elif kind is OutlineKind.RECTANGLE:
            rings.append(xy)
            waiting.append((row, kind, plane))
        elif kind is OutlineKind.ELLIPSE:
            # QuPath gives the middles of the sides: top, right, bottom, left.
            (_, y0), (x1, _), (_, y1), (x0, _) = xy.tolist()
            yield row, Outline.ellipse(x0, y0, x1, y1, plane)
        elif kind is OutlineKind.POINTS:
            yield row, Outline(Point(xy[0]) if len(xy) == 1 else MultiPoint(xy), kind, plane)
        else:
            yield row, Outline(LineString(xy), kind, plane)
    if rings:
        for (row, kind, plane), polygon in zip(waiting, polygons_of(rings), strict=True):
            yield row, Outline(polygon, kind, plane)
