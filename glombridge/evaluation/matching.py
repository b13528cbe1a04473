"""Which detection found which object: one to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..detection.boxes import Bools, Boxes, Floats, Ints, pair_overlaps, touching_pairs


@dataclass(frozen=True)
class Match:
    """The outcome on one slide.

    Attributes:
        truth_of: (detections,) position of the object each detection found, -1 = false.
        ignored: (detections,) false detections that count neither way, because they lie where
            truth is not known.
    """

    truth_of: Ints
    ignored: Bools
    n_truth: int

    @property
    def found(self) -> int:
        """Objects that were found."""
        return int((self.truth_of >= 0).sum())

    @property
    def missed(self) -> int:
        """Objects that were not."""
        return self.n_truth - self.found

    @property
    def is_false(self) -> Bools:
        """(detections,) those without an object, where truth is known."""
        return np.asarray((self.truth_of < 0) & ~self.ignored, np.bool_)

    @property
    def is_missed(self) -> Bools:
        """(objects,) those that no detection found."""
        missed = np.ones(self.n_truth, np.bool_)
        missed[self.truth_of[self.truth_of >= 0]] = False
        return missed

    @property
    def not_counted(self) -> int:
        """Detections without an object where truth is not known."""
        return int((self.ignored & (self.truth_of < 0)).sum())

    @property
    def false(self) -> int:
        """Detections without an object, where truth is known."""
        return int(self.is_false.sum())


def match_boxes(
    found: Boxes, truth_xyxy: Floats, *, min_iou: float = 0.5, ignored: Bools | None = None
) -> Match:
    """Match detections with objects one to one by intersection over union of their boxes.

    Greedy by score, as in COCO's evaluation (Lin et al., ECCV 2014): the best detection chooses
    first, among the objects still free, the one it overlaps most. Classes are not compared.

    Args:
        found: stitched detections.
        truth_xyxy: (M, 4) boxes of the true objects, same frame.
        min_iou: least intersection over union of a pair.
        ignored: (N,) detections whose being false shall not count.
    """
    i, j, shared, union = pair_overlaps(found.xyxy, truth_xyxy)
    iou = shared / np.where(union > 0, union, 1.0)
    keep = iou >= min_iou
    return _greedy(found, len(truth_xyxy), i[keep], j[keep], iou[keep], ignored)


def match_centers(found: Boxes, truth_xyxy: Floats, *, ignored: Bools | None = None) -> Match:
    """Match one to one by place alone: the centre of the detection lies in the object's box.

    Greedy by score; each detection takes the nearest centre among the objects still free. It says
    whether a pathologist would be led to the object, however well the box fits.

    Args:
        found: stitched detections.
        truth_xyxy: (M, 4) boxes of the true objects, same frame.
        ignored: (N,) detections whose being false shall not count.
    """
    center = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    i, j = touching_pairs(np.tile(center, 2), truth_xyxy)
    apart_px = np.linalg.norm(center[i] - (truth_xyxy[j, :2] + truth_xyxy[j, 2:]) / 2, axis=1)
    return _greedy(found, len(truth_xyxy), i, j, -apart_px, ignored)


def _greedy(
    found: Boxes, n_truth: int, i: Ints, j: Ints, merit: Floats, ignored: Bools | None
) -> Match:
    """The best detection first, each with the free object of the highest merit."""
    truth_of = np.full(len(found), -1, np.int64)
    taken = np.zeros(n_truth, np.bool_)
    rank = np.empty(len(found), np.int64)
    rank[np.lexsort((np.arange(len(found)), -found.score))] = np.arange(len(found))
    for k in np.lexsort((j, -merit, rank[i])):
        if truth_of[i[k]] < 0 and not taken[j[k]]:
            truth_of[i[k]] = j[k]
            taken[j[k]] = True
    nobody = np.zeros(len(found), np.bool_)
    return Match(truth_of, nobody if ignored is None else ignored, n_truth)
