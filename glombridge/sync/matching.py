"""Which detection is which object that is there already: one to one, by overlap, then by centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..detection.boxes import Bools, Floats, Ints, areas, pair_overlaps

SAME_IOU = 0.5
"""A detection that overlaps an object this much is that object, whoever drew it."""

SAME_SIZE = 0.25
"""Two boxes that hold each other's centre are one object only if their areas differ by less than
this factor: a tubule inside a glomerulus is not the glomerulus."""


@dataclass(frozen=True)
class Pairs:
    """Detections and the objects they are; each stands in one pair at the most.

    Attributes:
        found, there: positions, (N,) each, in order of ``found``.
        iou: (N,) intersection over union of their boxes.
        same: positions of all detections and objects that overlap by :data:`SAME_IOU`, not only one
            each.
    """

    found: Ints
    there: Ints
    iou: Floats
    same: tuple[Ints, Ints]


def pair_up(found: Floats, there: Floats, *, alike: tuple[Ints, Ints] | None = None) -> Pairs:
    """Pair boxes one to one: the greatest overlap first, then the nearest centres.

    Args:
        found: (N, 4) boxes of detections. Ties go to the first, so give them in an order that does
            not depend on how they were made.
        there: (M, 4) boxes of objects, likewise.
        alike: class numbers of both; at equal overlap those of one class are paired first.
    """
    i, j, shared, union = pair_overlaps(found, there)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = np.nan_to_num(shared / union)
    other = np.zeros(len(i), np.bool_) if alike is None else alike[0][i] != alike[1][j]
    free_found = np.ones(len(found), np.bool_)
    free_there = np.ones(len(there), np.bool_)
    partner = np.full(len(found), -1, np.int64)
    overlap = np.zeros(len(found))

    def take(order: Ints) -> None:
        for k in order.tolist():
            a, b = i[k], j[k]
            if free_found[a] and free_there[b]:
                free_found[a] = free_there[b] = False
                partner[a], overlap[a] = b, iou[k]

    same = np.flatnonzero(iou >= SAME_IOU)
    take(_ordered(same, j, i, other, -iou))
    by_center, apart_px = _centers_meet(found[i], there[j])
    by_center &= free_found[i] & free_there[j]
    take(_ordered(np.flatnonzero(by_center), j, i, other, apart_px))
    paired = np.flatnonzero(partner >= 0)
    return Pairs(paired, partner[paired], overlap[paired], (i[same], j[same]))


def _ordered(which: Ints, *keys: Floats | Ints | Bools) -> Ints:
    """Positions sorted by keys, the last one first."""
    return which[np.lexsort([key[which] for key in keys])]


def _centers_meet(a: Floats, b: Floats) -> tuple[Bools, Floats]:
    """(N,) whether the boxes a[i] and b[i] are one by their centres, and how far these are apart."""
    center_a, center_b = (a[:, :2] + a[:, 2:]) / 2, (b[:, :2] + b[:, 2:]) / 2
    area_a, area_b = areas(a), areas(b)
    of_one_size = np.minimum(area_a, area_b) >= SAME_SIZE * np.maximum(area_a, area_b)
    meet = np.asarray(_inside(center_a, b) & _inside(center_b, a) & of_one_size, np.bool_)
    apart_px: Floats = np.linalg.norm(center_a - center_b, axis=1)
    return meet, apart_px


def _inside(point: Floats, box: Floats) -> Bools:
    return np.asarray(((point >= box[:, :2]) & (point <= box[:, 2:])).all(axis=1), np.bool_)
