"""Is an object still as we pushed it? Tolerant of what QuPath rounds, and of nothing else.

QuPath keeps polygons and the measurements of detections with 32 bits and rounds coordinates to a
hundredth of a pixel in its GeoJSON and, from 0.6 on, when it reads geometries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import shapely

from ..ledger.pushed import Version
from ..objects import Outline, OutlineKind, SlideObject
from ..provenance import CONFIDENCE, QUEUE, QUEUE_RANK, RUN

ROUNDING_PX = 0.011
"""Half of QuPath's hundredth at either end, and a little."""
_FLOAT32 = 2.0**-23


def same_place(a: Outline | None, b: Outline | None) -> bool:
    """Whether two outlines are one, apart from QuPath's roundings."""
    if a is None or b is None:
        return a is b
    if a.plane != b.plane or a.is_area != b.is_area:
        return False
    bounds_a, bounds_b = a.bounds, b.bounds
    tolerance_px = ROUNDING_PX + _FLOAT32 * max(map(abs, bounds_a))
    if max(abs(x - y) for x, y in zip(bounds_a, bounds_b, strict=True)) > tolerance_px:
        return False
    if a.kind is b.kind is OutlineKind.RECTANGLE:
        return True
    xy_a, xy_b = (shapely.get_coordinates(o.geometry) for o in (a, b))
    if xy_a.shape == xy_b.shape and np.abs(xy_a - xy_b).max() <= tolerance_px:
        return True
    # The same line may begin elsewhere, or have lost a vertex that rounding made double.
    line_a, line_b = (o.geometry.boundary if o.is_area else o.geometry for o in (a, b))
    distance = shapely.hausdorff_distance(line_a, line_b)
    return bool(distance <= 1.5 * tolerance_px)


def is_untouched(version: Version, theirs: SlideObject) -> bool:
    """Whether nobody has changed anything of an object since it was pushed in this form.

    The colour of the class is the project's, the parent may be set by QuPath's own resolving of
    the hierarchy: they are no change.
    """
    pushed = version.object
    if not (
        pushed.kind is theirs.kind
        and pushed.path_class == theirs.path_class
        and pushed.locked == theirs.locked
        and theirs.name is None
        and theirs.color is None
        and math.isnan(theirs.probability)
        and same_place(pushed.outline, theirs.outline)
    ):
        return False
    return not version.in_full or (
        _same_numbers(pushed.measurements, theirs.measurements)
        and dict(pushed.metadata) == dict(theirs.metadata)
    )


def says_the_same(version: Version, theirs: SlideObject) -> bool:
    """Whether an object carries the run, score and rank of a form it was pushed in.

    Humans change classes, outlines and locks; QuPath's user interface changes none of these. So they
    tell which form somebody had before them, also when they judged it.
    """
    pushed = version.object
    names = pushed.measurements.keys() & {CONFIDENCE, QUEUE_RANK}
    return (
        version.in_full
        and all(pushed.metadata.get(key) == theirs.metadata.get(key) for key in (RUN, QUEUE))
        and names == theirs.measurements.keys() & {CONFIDENCE, QUEUE_RANK}
        and all(
            math.isclose(pushed.measurements[n], theirs.measurements[n], rel_tol=2 * _FLOAT32)
            for n in names
        )
    )


def _same_numbers(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    if a.keys() != b.keys():
        return False
    return all(
        math.isclose(value, b[name], rel_tol=2 * _FLOAT32)
        or (math.isnan(value) and math.isnan(b[name]))
        for name, value in a.items()
    )
