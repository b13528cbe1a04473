"""What goes between this process and the worker: plain values, no Java and no QuPath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...objects import Outline, SlideObject

ClassColors = tuple[tuple[tuple[str, ...], int], ...]
"""Levels of a class and its colour as QuPath's packed integer."""


@dataclass(frozen=True)
class OutlineColumns:
    """Outlines as QuPath holds them, one row each.

    Attributes:
        rows: index of the object each belongs to.
        kinds: values of :class:`OutlineKind`.
        planes: channel, z and t, shape (n, 3).
        counts: points of each outline; 0 where ``wkb`` has it.
        xy: all points one after another, shape (sum of counts, 2), in image pixels.
        wkb: hexadecimal WKB by row number of this table, for outlines that points do not describe.
    """

    rows: NDArray[np.int64]
    kinds: Sequence[str]
    planes: NDArray[np.int64]
    counts: NDArray[np.int64]
    xy: NDArray[np.float64]
    wkb: dict[int, str]


@dataclass(frozen=True)
class ObjectColumns:
    """All objects of one image in depth-first order, one row each.

    Attributes:
        kinds: values of :class:`ObjectKind`; a name of a Java class that is none of them.
        child_counts: direct children; the rows that follow are their subtrees.
        class_rows: index into ``classes``, -1 = unclassified.
        classes: levels and packed colour of every class in use.
        name_rows: index into ``measurement_names``.
        values: all measurement values one after another.
        missing: rows of TMA cores that are missing.
    """

    ids: Sequence[str]
    kinds: Sequence[str]
    child_counts: NDArray[np.int64]
    class_rows: NDArray[np.int64]
    classes: Sequence[tuple[tuple[str, ...], int | None]]
    names: Sequence[str | None]
    colors: Sequence[int | None]
    locked: Sequence[bool]
    probabilities: NDArray[np.float64]
    missing: frozenset[int]
    name_rows: NDArray[np.int64]
    measurement_names: Sequence[Sequence[str]]
    values: NDArray[np.float64]
    metadata: Sequence[dict[str, str]]
    outlines: OutlineColumns
    nuclei: OutlineColumns


@dataclass(frozen=True)
class ReadRequest:
    """Read a private copy of a data file.

    Attributes:
        colors: given to QuPath's classes first: there is one class of a name in a whole JVM, with
            the colour of the first file it was seen in.
    """

    source: str
    colors: ClassColors


@dataclass(frozen=True)
class RewriteRequest:
    """Read a private copy of a data file, change it, and write it to a new file.

    Attributes:
        ids: by position, ids for objects the file stores none for; QuPath would invent others.
        exact: position, whether it is the nucleus, and an outline QuPath 0.6 and later would round.
        changed: objects as they are to be, and the fields that differ.
    """

    source: str
    target: str
    colors: ClassColors
    ids: dict[int, str]
    exact: tuple[tuple[int, bool, Outline], ...]
    add: tuple[SlideObject, ...]
    changed: tuple[tuple[SlideObject, tuple[str, ...]], ...]
    remove: tuple[str, ...]
