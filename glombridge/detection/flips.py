"""How sure a model is: the same tile seen mirrored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .boxes import Floats, areas, intersections
from .detector import Seen

SAME_IOU = 0.5
"""A box of a flipped look that overlaps this much is the same object."""


def with_flips(
    detector: Callable[[NDArray[np.uint8]], Sequence[Seen]],
) -> Callable[[NDArray[np.uint8]], list[Seen]]:
    """A detector that looks at each tile four times, and says how much its scores vary.

    Boxes and scores stay those of the tile as it is, so detections do not change. The deviation
    is taken over the four looks; one that does not see the object counts as a score of 0. Tissue
    has no up or down, so a model that is sure is sure in each of them.
    """

    def look(tiles: NDArray[np.uint8]) -> list[Seen]:
        pixels = np.asarray(tiles)
        height, width = pixels.shape[1:3]
        first = list(detector(pixels))
        scores = [[seen.score] for seen in first]
        for in_x, in_y in ((True, False), (False, True), (True, True)):
            turned = pixels[:, :: -1 if in_y else 1, :: -1 if in_x else 1]
            for k, seen in enumerate(detector(np.ascontiguousarray(turned))):
                xyxy = seen.xyxy.copy()
                if in_x:
                    xyxy[:, [0, 2]] = width - xyxy[:, [2, 0]]
                if in_y:
                    xyxy[:, [1, 3]] = height - xyxy[:, [3, 1]]
                scores[k].append(_score_of_same(first[k], xyxy, seen.score))
        return [
            seen._replace(score_sd=np.std(np.stack(of_looks), axis=0))
            for seen, of_looks in zip(first, scores, strict=True)
        ]

    return look


def _score_of_same(seen: Seen, xyxy: Floats, score: Floats) -> Floats:
    """(n,) the best score among the boxes given that lie where each box of ``seen`` lies."""
    n, m = len(seen.score), len(score)
    best = np.zeros(n)
    if not n or not m:
        return best
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(m), indexing="ij"))
    shared = intersections(seen.xyxy[i], xyxy[j])
    union = areas(seen.xyxy)[i] + areas(xyxy)[j] - shared
    same = shared >= SAME_IOU * union
    np.maximum.at(best, i[same], score[j[same]])
    return best
