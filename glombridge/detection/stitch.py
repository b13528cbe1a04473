"""From boxes of overlapping tiles to one box per object.

The default method, ``views``, uses what is known about tiles and what suppression and merging of
boxes leave unused:

- a tile shows an object once: two boxes of one tile are two objects (touching neighbours stay two),
  and an object has at most one view per tile;
- on the ground that two tiles share, both see the same of an object (:func:`.views.agreement`);
- where a side ends at a tile border inside the slide, the object may go on.

So views are joined that agree on shared ground: whole views of one object, the fragments that go
with them, and the fragments of an object larger than the overlap, whatever their number. What is
left over and lies inside an object that its tile should have seen is that tile's view of it.

Outlines, where the model gives them, follow the boxes: which views are one object is decided by boxes
alone, and then :func:`.outlines.put_together` makes one outline of theirs.

``nms`` and ``nmm`` are the usual methods for comparison: greedy suppression by intersection over
union, and the greedy non-maximum merging of sahi (Akyon et al., ICIP 2022) by intersection over the
smaller, with the union of the boxes. In all methods classes are voted by summed score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import UsageError
from .boxes import Bools, Boxes, Floats, Ints, Outlines, areas
from .grouping import groups_of_views, leaders, members_of, numbered
from .outlines import put_together
from .pairs import overlapping_pairs
from .views import agreement, overlap_shares

AGREE = 0.5
"""Two views of different tiles that agree this far on shared ground show one object."""

SAME_IOU = 0.45
"""Two boxes of one tile with this intersection over union are one object reported twice, and a whole
view with this much of the union of all views is exact enough to count for the final box."""

INSIDE_SHARE = 0.8
"""A box with this share inside another is a part of that object, seen as a whole."""

PART_SHARE = 0.2
"""... unless it is a smaller part of it than this: then it may be a small neighbour in the corner of
a turned object's box."""

FRAGMENT_SHARE = 0.5
"""The same for a box that is cut."""

NMS_IOU = 0.5
NMM_SHARE = 0.5
"""What sahi takes for both by default."""

DEFAULT_METHOD = "views"


def stitch(boxes: Boxes, method: str = DEFAULT_METHOD) -> Boxes:
    """One box per object.

    Args:
        boxes: every tile's boxes in slide coordinates, in any order.
        method: one of :data:`METHODS`.

    Returns:
        Boxes in order of score, each with the best score of its group and the class its group
        voted for by summed score. ``cut_sides`` is true where no tile showed the object's end.

    Raises:
        UsageError: no such method.
    """
    if method not in METHODS:
        msg = f"no stitching method {method!r}; there are {', '.join(METHODS)}"
        raise UsageError(msg)
    if not len(boxes):
        return Boxes.empty()
    return METHODS[method](boxes.in_order()).in_order()


def _views(boxes: Boxes) -> Boxes:
    i, j = overlapping_pairs(boxes.xyxy)
    of_one_tile = boxes.tile[i] == boxes.tile[j]
    kept, kept_of = _reported_once(boxes, i[of_one_tile], j[of_one_tile])
    i, j = i[~of_one_tile], j[~of_one_tile]
    is_kept = kept_of == np.arange(len(boxes))
    both = is_kept[i] & is_kept[j]
    i, j = i[both], j[both]
    strength = agreement(boxes, i, j)
    agrees = strength >= AGREE
    place = np.full(len(boxes), -1)
    place[kept] = np.arange(len(kept))
    a, b = place[i], place[j]
    group = groups_of_views(boxes.tile[kept], a[agrees], b[agrees], strength[agrees])
    group = _with_leftovers(boxes.take(kept), group, a, b)
    return _objects(boxes, group[place[kept_of]], is_kept)


def _reported_once(boxes: Boxes, i: Ints, j: Ints) -> tuple[Ints, Ints]:
    """Boxes without those that one tile reported twice, and the box that stands for each."""
    of_union, of_smaller = overlap_shares(boxes.xyxy, i, j)
    twice = (of_union >= SAME_IOU) | ((of_smaller >= INSIDE_SHARE) & (of_union >= PART_SHARE))
    leader = leaders(len(boxes), i[twice], j[twice])
    return np.flatnonzero(leader == np.arange(len(boxes))), leader


def _with_leftovers(views: Boxes, group: Ints, i: Ints, j: Ints) -> Ints:
    """Groups joined with what lies inside them and is what its tile should have shown of them.

    Args:
        views: one per object and tile.
        group: (n,) group of each view.
        i: (pairs,) views of different tiles that overlap.
        j: (pairs,) the other of each pair.
    """
    n = int(group.max()) + 1
    xyxy, is_cut = _extents(views, group, n)
    # The larger first: a part yields to the object, whichever scores more.
    order = np.lexsort((np.arange(n), -areas(xyxy)))
    rank = np.empty_like(order)
    rank[order] = np.arange(n)
    apart = group[i] != group[j]
    a, b = rank[group[i[apart]]], rank[group[j[apart]]]
    large, small = order[np.minimum(a, b)], order[np.maximum(a, b)]
    _, inside = overlap_shares(xyxy, large, small)
    is_inside = inside >= np.where(is_cut[small], FRAGMENT_SHARE, INSIDE_SHARE)
    large, small = large[is_inside], small[is_inside]
    belongs = _should_be_seen(views, group, xyxy, large, small)
    large, small = large[belongs], small[belongs]
    joined = order[leaders(n, rank[large], rank[small])][rank]
    return joined[group]


def _should_be_seen(views: Boxes, group: Ints, xyxy: Floats, large: Ints, small: Ints) -> Bools:
    """(pairs,) whether the views of one group are what their tiles should show of the other.

    They are not where a tile has another view of the larger object already, nor where they show far
    less than there should be: then they are a neighbour in the corner of a turned object's box.
    """
    pair, view = members_of(group, small)
    tile = views.tile[view]
    is_asked = np.zeros(len(xyxy), np.bool_)
    is_asked[large] = True
    asked = is_asked[group]
    seen = group[asked] * len(views.tiles) + views.tile[asked]
    is_seen_already = np.isin(large[pair] * len(views.tiles) + tile, seen)
    expected = xyxy[large[pair]].copy()
    expected[:, :2] = np.maximum(expected[:, :2], views.tiles[tile, :2])
    expected[:, 2:] = np.minimum(expected[:, 2:], views.tiles[tile, 2:])
    is_other = is_seen_already | (_iou(views.xyxy[view], expected) < PART_SHARE)
    belongs = np.ones(len(large), np.bool_)
    belongs[pair[is_other]] = False
    return belongs


def _objects(boxes: Boxes, group: Ints, is_kept: np.ndarray) -> Boxes:
    """One box per group; ``is_kept`` says which boxes count for its place."""
    group, n = numbered(group)
    kept = np.flatnonzero(is_kept)
    views, of = boxes.take(kept), group[kept]
    union, _ = _extents(views, of, n)
    # Whole views are more exact than a union, whose every side is its outermost error.
    whole = ~views.cut
    fits = np.zeros(len(views), np.bool_)
    fits[whole] = _iou(views.xyxy[whole], union[of[whole]]) >= SAME_IOU
    weight = np.where(fits, np.maximum(views.score, 1e-9), 0.0)
    total = np.bincount(of, weight, n)
    summed = [np.bincount(of, weight * side, n) for side in views.xyxy.T]
    has_whole = total > 0
    mean = np.column_stack(summed) / np.where(has_whole, total, 1.0)[:, None]
    score = np.zeros(n)
    np.maximum.at(score, group, boxes.score)
    ends = np.zeros((n, 4), np.bool_)
    np.logical_or.at(ends, of, ~views.cut_sides)
    return Boxes(
        np.where(has_whole[:, None], mean, union),
        score,
        _vote(boxes, group, n),
        ~(ends | has_whole[:, None]),
        score_sd=_of_best(boxes.score_sd, group, n),
        outline=None if views.outline is None else put_together(views.outline, of, fits, n),
    )


def _nms(boxes: Boxes) -> Boxes:
    i, j = overlapping_pairs(boxes.xyxy)
    of_union, _ = overlap_shares(boxes.xyxy, i, j)
    same = of_union >= NMS_IOU
    return _led(boxes, leaders(len(boxes), i[same], j[same]), boxes.xyxy, boxes.outline)


def _nmm(boxes: Boxes) -> Boxes:
    i, j = overlapping_pairs(boxes.xyxy)
    _, of_smaller = overlap_shares(boxes.xyxy, i, j)
    same = of_smaller >= NMM_SHARE
    leader = leaders(len(boxes), i[same], j[same])
    n = len(boxes)
    union, _ = _extents(boxes, leader, n)
    outline = boxes.outline
    if outline is not None:
        outline = put_together(outline, leader, np.zeros(n, np.bool_), n)
    return _led(boxes, leader, union, outline)


METHODS: dict[str, Callable[[Boxes], Boxes]] = {"views": _views, "nms": _nms, "nmm": _nmm}
"""Stitching methods by name. Each takes the boxes best first."""


def _led(boxes: Boxes, leader: Ints, xyxy: Floats, outline: Outlines | None) -> Boxes:
    is_leader = leader == np.arange(len(boxes))
    return Boxes(
        xyxy[is_leader],
        boxes.score[is_leader],
        _vote(boxes, leader, len(boxes))[is_leader],
        boxes.cut_sides[is_leader],
        score_sd=None if boxes.score_sd is None else boxes.score_sd[is_leader],
        outline=None if outline is None else outline[is_leader],
    )


def _extents(boxes: Boxes, group: Ints, n: int) -> tuple[Floats, np.ndarray]:
    """(groups, 4) union of each group's boxes, and whether none of them is whole."""
    low, high = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
    np.minimum.at(low, group, boxes.xyxy[:, :2])
    np.maximum.at(high, group, boxes.xyxy[:, 2:])
    has_whole = np.zeros(n, np.bool_)
    has_whole[group[~boxes.cut]] = True
    return np.hstack([low, high]), ~has_whole


def _iou(a: Floats, b: Floats) -> Floats:
    both = np.vstack([a, b])
    k = np.arange(len(a))
    return overlap_shares(both, k, k + len(a))[0]


def _vote(boxes: Boxes, group: Ints, n: int) -> Ints:
    """(n,) the class with the highest summed score of each group."""
    n_classes = int(boxes.class_index.max(initial=0)) + 1
    key = group * n_classes + boxes.class_index
    votes = np.bincount(key, boxes.score, n * n_classes).reshape(n, n_classes)
    winner: Ints = votes.argmax(axis=1).astype(np.int64)
    return winner


def _of_best(column: Floats | None, group: Ints, n: int) -> Floats | None:
    """(n,) the value of each group's best box; boxes come best first."""
    if column is None:
        return None
    best = np.full(n, len(column))
    np.minimum.at(best, group, np.arange(len(column)))
    values: Floats = column[best]
    return values
