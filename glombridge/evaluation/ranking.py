"""Detections of many slides ranked by score: average precision and the curves made of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..detection.boxes import Bools, Boxes, Floats, Ints
from .matching import Match

COCO_IOUS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""The overlaps that AP50-95 is the mean over."""

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Ranking:
    """The detections that count, best first.

    Attributes:
        score: (N,) falling.
        is_true: (N,) whether each found an object.
        slide: (N,) number of the slide of each.
        n_truth: (slides,) objects on each slide.
        score_sd: (N,) deviation of the score over mirrored looks, ``None`` = there were none.
        row: (N,) place of each among the detections of its slide, ``None`` = not known.
    """

    score: Floats
    is_true: Bools
    slide: Ints
    n_truth: Ints
    score_sd: Floats | None = None
    row: Ints | None = None

    @classmethod
    def of(cls, slides: Sequence[tuple[Boxes, Match]]) -> Ranking:
        """Of detections and their matches, slide by slide. Ties stay in the order given."""
        counts = [~m.ignored | (m.truth_of >= 0) for _, m in slides]
        parts = list(zip(slides, counts, strict=True))
        score = np.concatenate([np.zeros(0), *(b.score[c] for (b, _), c in parts)])
        true = np.concatenate([np.zeros(0, bool), *((m.truth_of >= 0)[c] for (_, m), c in parts)])
        slide = np.repeat(np.arange(len(slides)), [int(c.sum()) for c in counts])
        order = np.argsort(-score, kind="stable")
        n_truth = np.array([m.n_truth for _, m in slides], np.int64)
        row = np.concatenate([np.zeros(0, np.int64), *(np.flatnonzero(c) for c in counts)])
        sds = [b.score_sd for b, _ in slides if b.score_sd is not None]
        sd = None
        if sds and len(sds) == len(slides):
            sd = np.concatenate([s[c] for s, c in zip(sds, counts, strict=True)])[order]
        return cls(score[order], true[order], slide[order], n_truth, sd, row[order])

    @cached_property
    def rises(self) -> Ints:
        """Places of the true detections."""
        return np.flatnonzero(self.is_true)


def average_precision(ranking: Ranking, slide_weights: Floats | None = None) -> float | None:
    """Mean of the best precision at or beyond 101 levels of recall, as COCO's evaluation has it.

    Args:
        ranking: detections of all slides.
        slide_weights: (slides,) how often each slide counts; once by default.

    Returns:
        0 to 1, ``None`` where there are no objects.
    """
    weights = np.ones(len(ranking.n_truth)) if slide_weights is None else slide_weights
    n_truth = float(weights @ ranking.n_truth)
    if n_truth == 0:
        return None
    weight = weights[ranking.slide]
    # Recall rises only at true detections, and precision falls after them: no other place is asked for.
    rises = ranking.rises
    true = np.cumsum(weight[rises])
    seen = np.cumsum(weight)[rises]
    precision = true / (seen + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(true / n_truth, _RECALLS, side="left")
    return float(np.append(best, 0.0)[at].mean())


def precision_recall(ranking: Ranking) -> tuple[Floats, Floats, Floats]:
    """Threshold, precision and recall at each distinct score, the highest first."""
    n = len(ranking.score)
    is_last = np.append(ranking.score[1:] != ranking.score[:-1], n > 0)[:n]
    true = np.cumsum(ranking.is_true)[is_last]
    seen = (np.arange(n) + 1)[is_last]
    total = max(1, int(ranking.n_truth.sum()))
    return ranking.score[is_last], true / np.maximum(seen, 1), true / total
