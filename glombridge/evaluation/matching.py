"""Which detection found which object: one to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..detection.boxes import Bools, Boxes, Floats, Ints, pair_overlaps


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
    def false(self) -> int:
        """Detections without an object, where truth is known."""
        return int(((self.truth_of < 0) & ~self.ignored).sum())


def match_boxes(
    found: Boxes, truth_xyxy: Floats, *, min_iou: float = 0.5, ignored: Bools | None = None
) -> Match:
    """Match detections with objects one to one by intersection over union of their boxes.

    Greedy by score, as in COCO's evaluation: the best detection chooses first, among the objects
    still free, the one it overlaps most. Classes are not compared.

    Args:
        found: stitched detections.
        truth_xyxy: (M, 4) boxes of the true objects, same frame.
        ignored: (N,) detections whose being false shall not count.
    """
    truth_of = np.full(len(found), -1, np.int64)
    i, j, shared, union = pair_overlaps(found.xyxy, truth_xyxy)
    iou = shared / np.where(union > 0, union, 1.0)
    keep = iou >= min_iou
    i, j, iou = i[keep], j[keep], iou[keep]
    taken = np.zeros(len(truth_xyxy), np.bool_)
    rank = np.empty(len(found), np.int64)
    rank[np.lexsort((np.arange(len(found)), -found.score))] = np.arange(len(found))
    for k in np.lexsort((j, -iou, rank[i])):
        if truth_of[i[k]] < 0 and not taken[j[k]]:
            truth_of[i[k]] = j[k]
            taken[j[k]] = True
    nobody = np.zeros(len(found), np.bool_)
    return Match(truth_of, nobody if ignored is None else ignored, len(truth_xyxy))
