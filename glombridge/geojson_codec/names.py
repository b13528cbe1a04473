"""Names in QuPath's GeoJSON that writer and reader share."""

from __future__ import annotations

import math
import re

from ..objects import Color, ObjectKind

KIND_NAMES = {
    ObjectKind.ANNOTATION: "annotation",
    ObjectKind.DETECTION: "detection",
    ObjectKind.CELL: "cell",
    ObjectKind.TILE: "tile",
    ObjectKind.TMA_CORE: "tmaCore",
}
"""``objectType`` of each kind, as QuPath 0.4 to 0.7 write it."""

EXTRAS = "glombridge"
"""Property that holds what QuPath's GeoJSON has no place for; QuPath ignores it.

Its keys: ``parent`` (id), ``probability``, ``idIsStored`` (false), ``colorAlpha``,
``classHasColor`` (false: the grey is made up), and ``outline`` and ``nucleusOutline`` (kind, where
the geometry alone would suggest another), and ``measurements`` (those that are not finite: one of
them makes QuPath 0.4 refuse the whole file) with ``measurementNames``, the order of all of them.
"""

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Numbers that JSON cannot hold, as QuPath 0.6 and later write them: in quotes."""

DEFAULT_CLASS_COLOR = Color(64, 64, 64)
"""QuPath's own for a class without one. QuPath refuses a classification that has no colour."""

ROOTS = frozenset(["root", "PathRootObject"])
"""Object types of the root, which stands for the image and is no object."""

UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""The only form of an id that QuPath 0.4 and later keep."""
