"""From boxes of overlapping tiles to one box per object.

An object no larger than the overlap is whole in at least one tile, and the other tiles that see it
show it whole again or show a fragment that ends at their border. So:

1. whole views are grouped around the best-scoring one; a group becomes one box, the mean of its
   members weighted by score;
2. a fragment that a whole view covers says nothing new and yields to it;
3. fragments left over belong to objects that are larger than the overlap, or were seen whole by no
   tile; those that overlap are joined to their union.

The grouping is the greedy non-maximum merging of sahi (Akyon et al., ICIP 2022), restricted to
whole views, so that a union never swallows a touching neighbour through a fragment.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .boxes import Bools, Boxes, Floats, Ints, areas, intersections, touching_pairs

SAME_IOU = 0.45
"""Two whole views with this intersection over union show one object. Touching neighbours stay far
below; two looks at one object stay above even when each is off by a tenth of its size."""

INSIDE_SHARE = 0.8
"""A whole view with this share inside a better one is a part seen as a whole, not a neighbour."""

FRAGMENT_SHARE = 0.5
"""A fragment with this share of its area inside a box belongs to that object."""


def stitch(boxes: Boxes) -> Boxes:
    """One box per object.

    Args:
        boxes: every tile's boxes in slide coordinates, in any order.

    Returns:
        Boxes in order of score, each with the best score of its group and the class its group
        voted for by summed score. ``cut`` is true where no tile showed the object whole.
    """
    boxes = boxes.in_order()
    whole, cut = boxes.take(~boxes.cut), boxes.take(boxes.cut)
    found = _merge_whole(whole)
    found, covered = _absorb(found, cut)
    return Boxes.concatenate([found, _merge_fragments(cut.take(~covered))]).in_order()


def _merge_whole(boxes: Boxes) -> Boxes:
    area = areas(boxes.xyxy)

    def same(i: Ints, j: Ints) -> Bools:
        shared = intersections(boxes.xyxy[i], boxes.xyxy[j])
        smaller = np.minimum(area[i], area[j])
        union = area[i] + area[j] - shared
        return (shared >= SAME_IOU * union) | (shared >= INSIDE_SHARE * smaller)

    leader = _group(boxes, same)
    leaders = np.unique(leader)
    # The mean takes only views that agree with the leader; a part seen as a whole would shrink it.
    shared = intersections(boxes.xyxy, boxes.xyxy[leader])
    agrees = shared >= SAME_IOU * (area + area[leader] - shared)
    weight = np.where(agrees, np.maximum(boxes.score, 1e-9), 0.0)
    summed = [np.bincount(leader, weight * column, len(boxes))[leaders] for column in boxes.xyxy.T]
    total = np.bincount(leader, weight, len(boxes))[leaders]
    return Boxes(
        np.column_stack(summed).reshape(-1, 4) / total[:, None],
        boxes.score[leaders],
        _vote(boxes, leader)[leaders],
        np.zeros(len(leaders), np.bool_),
    )


def _absorb(found: Boxes, fragments: Boxes) -> tuple[Boxes, Bools]:
    """Let fragments yield to the whole views that cover them; their scores stay with those."""
    i, j = touching_pairs(fragments.xyxy, found.xyxy)
    shared = intersections(fragments.xyxy[i], found.xyxy[j])
    inside = shared >= FRAGMENT_SHARE * areas(fragments.xyxy)[i]
    i, j = i[inside], j[inside]
    covered = np.zeros(len(fragments), np.bool_)
    covered[i] = True
    score = found.score.copy()
    np.maximum.at(score, j, fragments.score[i])
    return Boxes(found.xyxy, score, found.class_index, found.cut), covered


def _merge_fragments(boxes: Boxes) -> Boxes:
    # A union can reach a fragment its members did not, so this repeats until nothing joins.
    while len(boxes):
        area = areas(boxes.xyxy)

        def same(i: Ints, j: Ints, xyxy: Floats = boxes.xyxy, area: Floats = area) -> Bools:
            shared = intersections(xyxy[i], xyxy[j])
            return shared >= FRAGMENT_SHARE * np.minimum(area[i], area[j])

        leader = _group(boxes, same)
        leaders = np.unique(leader)
        if len(leaders) == len(boxes):
            break
        low = np.full((len(boxes), 2), np.inf)
        high = np.full((len(boxes), 2), -np.inf)
        np.minimum.at(low, leader, boxes.xyxy[:, :2])
        np.maximum.at(high, leader, boxes.xyxy[:, 2:])
        boxes = Boxes(
            np.hstack([low, high])[leaders],
            boxes.score[leaders],
            _vote(boxes, leader)[leaders],
            boxes.cut[leaders],
        )
    return boxes


def _group(boxes: Boxes, same: Callable[[Ints, Ints], Bools]) -> Ints:
    """Greedy grouping: each box joins the first better box that leads a group and is the same."""
    n = len(boxes)
    leader = np.arange(n)
    i, j = touching_pairs(boxes.xyxy, boxes.xyxy)
    keep = i < j  # boxes are sorted: i scores at least as much as j
    i, j = i[keep], j[keep]
    keep = same(i, j)
    taken = np.zeros(n, np.bool_)
    for a, b in zip(i[keep].tolist(), j[keep].tolist(), strict=True):
        if not taken[a] and not taken[b]:
            leader[b] = a
            taken[b] = True
    return leader


def _vote(boxes: Boxes, leader: Ints) -> Ints:
    """(N,) at each leader, the class with the highest summed score in its group."""
    n_classes = int(boxes.class_index.max(initial=0)) + 1
    votes = np.zeros((len(boxes), n_classes))
    np.add.at(votes, (leader, boxes.class_index), boxes.score)
    winners: Ints = votes.argmax(axis=1)
    return winners
