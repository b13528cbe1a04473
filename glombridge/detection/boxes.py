"""Boxes a detector saw, as columns: fast to gather, sort and stitch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Outlines = NDArray[np.object_]
"""Polygons and multipolygons of shapely, or ``None``."""

_EVERYWHERE = np.array([[-np.inf, -np.inf, np.inf, np.inf]])


@dataclass(frozen=True)
class Boxes:
    """N boxes of one slide.

    Attributes:
        xyxy: (N, 4) left, top, right, bottom in QuPath pixels of the slide.
        score: (N,) 0 to 1.
        class_index: (N,) detector class.
        cut_sides: (N, 4) which sides end at a border of the box's tile that lies inside the slide,
            so that the object may go on there. None are, where it is left out.
        tile: (N,) which of ``tiles`` each box was seen in.
        tiles: (T, 4) left, top, right, bottom of the tiles, QuPath pixels. Where they are left out
            there is one that shows everything, as for stitched objects.
        score_sd: (N,) standard deviation of the score over flipped looks at the same tile, ``None``
            where there was only one look.
        outline: (N,) outline of each box's object in QuPath pixels, ``None`` where its mask is empty;
            ``None`` altogether from a model that gives boxes only.
    """

    xyxy: Floats
    score: Floats
    class_index: Ints
    cut_sides: Bools = field(default_factory=lambda: np.zeros((0, 4), np.bool_))
    tile: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    tiles: Floats = field(default_factory=lambda: _EVERYWHERE)
    score_sd: Floats | None = None
    outline: Outlines | None = None

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if not len(self.cut_sides):
            object.__setattr__(self, "cut_sides", np.zeros((n, 4), np.bool_))
        if not len(self.tile):
            object.__setattr__(self, "tile", np.zeros(n, np.int64))
        shapes = [
            (self.xyxy, (n, 4)),
            (self.score, (n,)),
            (self.class_index, (n,)),
            (self.cut_sides, (n, 4)),
            (self.tile, (n,)),
            (self.tiles, (len(self.tiles), 4)),
        ]
        more = (self.score_sd, self.outline)
        shapes += [(column, (n,)) for column in more if column is not None]
        if any(column.shape != shape for column, shape in shapes):
            given = ", ".join(str(column.shape) for column, _ in shapes)
            msg = f"columns of {n} boxes disagree: xyxy, score, class, cut sides, tile, tiles are {given}"
            raise InputError(msg)
        if not (np.isfinite(self.xyxy).all() and np.isfinite(self.score).all()):
            msg = "boxes hold coordinates or scores that are not finite"
            raise InputError(msg)

    def __len__(self) -> int:
        return len(self.score)

    @property
    def cut(self) -> Bools:
        """(N,) whether a box may show only a part of its object."""
        cut: Bools = np.any(self.cut_sides, axis=1)
        return cut

    @classmethod
    def empty(cls) -> Boxes:
        """No boxes."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Boxes]) -> Boxes:
        """All boxes of all parts, in their order; the parts share one table of tiles.

        Raises:
            InputError: they do not.
        """
        if not parts:
            return cls.empty()
        if any(p.tiles is not parts[0].tiles for p in parts):
            msg = "boxes of different grids cannot be put together"
            raise InputError(msg)
        deviations = [p.score_sd for p in parts if p.score_sd is not None]
        outlines = [p.outline for p in parts if p.outline is not None]
        return cls(
            np.concatenate([p.xyxy for p in parts]),
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.class_index for p in parts]),
            np.concatenate([p.cut_sides for p in parts]),
            np.concatenate([p.tile for p in parts]),
            parts[0].tiles,
            np.concatenate(deviations) if len(deviations) == len(parts) else None,
            np.concatenate(outlines) if len(outlines) == len(parts) else None,
        )

    def take(self, which: Ints | Bools) -> Boxes:
        """The boxes at these positions, or where a mask is true."""
        return Boxes(
            self.xyxy[which],
            self.score[which],
            self.class_index[which],
            self.cut_sides[which],
            self.tile[which],
            self.tiles,
            None if self.score_sd is None else self.score_sd[which],
            None if self.outline is None else self.outline[which],
        )

    def without_outlines(self) -> Boxes:
        """The boxes alone: all that stitching decides by."""
        return self if self.outline is None else replace(self, outline=None)

    def above(self, min_score: float) -> Boxes:
        """The boxes that score at least this much."""
        return self.take(self.score >= min_score)

    def in_order(self) -> Boxes:
        """Sorted by score, best first; equal scores by place, so that no order depends on workers."""
        order = np.argsort(-self.score, kind="stable")
        score = self.score[order]
        # Sorting by every column takes most of a second for a million boxes: only ties need it.
        is_tied = np.zeros(len(order), np.bool_)
        is_tied[1:] = score[1:] == score[:-1]
        is_tied[:-1] |= is_tied[1:]
        tied = order[is_tied]
        x0, y0, x1, y1 = self.xyxy[tied].T
        columns = (self.class_index[tied], self.tile[tied], y1, x1, y0, x0, -self.score[tied])
        # Of two boxes alike in everything the outline of the first is taken.
        ranks = () if self.outline is None else (_ranks(self.outline[tied]),)
        order[is_tied] = tied[np.lexsort((*ranks, *columns))]
        return self.take(order)


def _ranks(outlines: Outlines) -> Ints:
    """(N,) an order of outlines by what they are, those that are none last."""
    import shapely

    texts = [b"" if o is None else shapely.to_wkb(o) for o in outlines]
    place = {text: n for n, text in enumerate(sorted(set(texts), reverse=True))}
    return np.array([place[text] for text in texts], np.int64)


def areas(xyxy: Floats) -> Floats:
    """(N,) area of each box, 0 where it is turned inside out."""
    return np.clip(xyxy[:, 2] - xyxy[:, 0], 0, None) * np.clip(xyxy[:, 3] - xyxy[:, 1], 0, None)


def intersections(a: Floats, b: Floats) -> Floats:
    """(N,) intersection area of the boxes a[i] and b[i]."""
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    shared: Floats = np.clip(width, 0, None) * np.clip(height, 0, None)
    return shared


def touching_pairs(a: Floats, b: Floats) -> tuple[Ints, Ints]:
    """Positions (i, j) of all pairs whose boxes a[i] and b[j] intersect; no quadratic step."""
    import shapely

    from ..objects import box_polygons

    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    tree = shapely.STRtree(box_polygons(b))
    i, j = tree.query(box_polygons(a), predicate="intersects")
    order = np.lexsort((j, i))
    return i[order].astype(np.int64), j[order].astype(np.int64)


def pair_overlaps(a: Floats, b: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """All pairs (i, j) of boxes that intersect, with the areas of intersection and of union."""
    i, j = touching_pairs(a, b)
    shared = intersections(a[i], b[j])
    return i, j, shared, areas(a)[i] + areas(b)[j] - shared
