"""Boxes a detector saw, as columns: fast to gather, sort and stitch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Boxes:
    """N boxes of one slide.

    Attributes:
        xyxy: (N, 4) left, top, right, bottom in QuPath pixels of the slide.
        score: (N,) 0 to 1.
        class_index: (N,) detector class.
        cut: (N,) whether the box ends at a border of its tile that lies inside the slide, so
            that it may show only a part of its object.
    """

    xyxy: Floats
    score: Floats
    class_index: Ints
    cut: Bools

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if self.xyxy.shape != (n, 4) or not (
            self.score.shape == self.class_index.shape == self.cut.shape == (n,)
        ):
            msg = (
                f"columns of boxes disagree: xyxy {self.xyxy.shape}, score {self.score.shape}, "
                f"class {self.class_index.shape}, cut {self.cut.shape}"
            )
            raise InputError(msg)
        if not (np.isfinite(self.xyxy).all() and np.isfinite(self.score).all()):
            msg = "boxes hold coordinates or scores that are not finite"
            raise InputError(msg)

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def empty(cls) -> Boxes:
        """No boxes."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.bool_))

    @classmethod
    def concatenate(cls, parts: Sequence[Boxes]) -> Boxes:
        """All boxes of all parts, in their order."""
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([p.xyxy for p in parts]),
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.class_index for p in parts]),
            np.concatenate([p.cut for p in parts]),
        )

    def take(self, which: Ints | Bools) -> Boxes:
        """The boxes at these positions, or where a mask is true."""
        return Boxes(self.xyxy[which], self.score[which], self.class_index[which], self.cut[which])

    def above(self, min_score: float) -> Boxes:
        """The boxes that score at least this much."""
        return self.take(self.score >= min_score)

    def in_order(self) -> Boxes:
        """Sorted by score, best first; equal scores by place, so that no order depends on workers."""
        x0, y0, x1, y1 = self.xyxy.T
        return self.take(np.lexsort((self.class_index, y1, x1, y0, x0, -self.score)))


def areas(xyxy: Floats) -> Floats:
    """(N,) area of each box, 0 where it is turned inside out."""
    return np.clip(xyxy[:, 2] - xyxy[:, 0], 0, None) * np.clip(xyxy[:, 3] - xyxy[:, 1], 0, None)


def intersections(a: Floats, b: Floats) -> Floats:
    """(N,) intersection area of the boxes a[i] and b[i]."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, 2:], b[:, 2:])
    shared: Floats = np.prod(np.clip(high - low, 0, None), axis=1)
    return shared


def touching_pairs(a: Floats, b: Floats) -> tuple[Ints, Ints]:
    """Positions (i, j) of all pairs whose boxes a[i] and b[j] intersect; no quadratic step."""
    import shapely

    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    tree = shapely.STRtree(shapely.box(*b.T))
    i, j = tree.query(shapely.box(*a.T), predicate="intersects")
    order = np.lexsort((j, i))
    return i[order].astype(np.int64), j[order].astype(np.int64)


def pair_overlaps(a: Floats, b: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """All pairs (i, j) of boxes that intersect, with the areas of intersection and of union."""
    i, j = touching_pairs(a, b)
    shared = intersections(a[i], b[j])
    return i, j, shared, areas(a)[i] + areas(b)[j] - shared
