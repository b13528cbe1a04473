"""A simulated annotator: what reviewing detections in some order is worth, decision by decision.

She judges one detection after the other, always rightly. What she has not judged yet is taken as the
detector says: an object from its confidence on, nothing below it. So a decision helps where the
detector is wrong, and a good order brings those first. The figure is the F1 of the slides as they
would then be, not of a detector trained on them; objects that no detection shows stay missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..detection.boxes import Bools, Floats, Ints
from .ranking import Ranking

_POINTS = 100


@dataclass(frozen=True)
class ReviewCurve:
    """F1 over the number of decisions.

    Attributes:
        f1: (decisions + 1,) from none to all.
    """

    f1: Floats

    @property
    def mean_f1(self) -> float:
        """Over all numbers of decisions: the worth of the order in one number."""
        return float(self.f1.mean())

    @property
    def to_half(self) -> int:
        """Decisions until half of what review can bring is there."""
        half = (self.f1[0] + self.f1[-1]) / 2
        return int(np.argmax(self.f1 >= half - 1e-12))

    def as_dict(self) -> dict[str, Any]:
        """For JSON, thinned out to about a hundred points."""
        at = np.unique(np.linspace(0, len(self.f1) - 1, _POINTS).round().astype(int))
        return {
            "decisions": at.tolist(),
            "f1": [round(float(v), 6) for v in self.f1[at]],
            "mean_f1": round(self.mean_f1, 6),
            "to_half": self.to_half,
        }


def queue_orders(ranking: Ranking, confidence: float, *, seed: int = 0) -> dict[str, Ints]:
    """Orders of review to compare, each a permutation of the detections.

    Args:
        ranking: detections of all slides, best first.
        confidence: the detector works at.
        seed: of the random order.
    """
    n = len(ranking.score)
    return {
        "random": np.random.default_rng(seed).permutation(n),
        "surest first": np.arange(n),
        "slide by slide": np.lexsort((np.arange(n), ranking.slide)),
        "nearest to the confidence first": np.argsort(
            np.abs(ranking.score - confidence), kind="stable"
        ),
    }


def review(ranking: Ranking, order: Ints, confidence: float) -> ReviewCurve | None:
    """Let the annotator judge detections in an order; ``None`` without objects."""
    n_truth = int(ranking.n_truth.sum())
    if not n_truth:
        return None
    counts_at_first: Bools = ranking.score >= confidence
    true = np.concatenate([[0], _changes(order, ranking.is_true & ~counts_at_first)])
    false = np.concatenate([[0], -_changes(order, ~ranking.is_true & counts_at_first)])
    found = int((counts_at_first & ranking.is_true).sum()) + true
    wrong = int((counts_at_first & ~ranking.is_true).sum()) + false
    return ReviewCurve(2 * found / (n_truth + found + wrong))


def compare_orders(
    ranking: Ranking, confidence: float, *, seed: int = 0
) -> Mapping[str, Any] | None:
    """Every order of :func:`queue_orders`, for JSON; ``None`` without objects."""
    told = {}
    for name, order in queue_orders(ranking, confidence, seed=seed).items():
        curve = review(ranking, order, confidence)
        if curve is None:
            return None
        told[name] = curve.as_dict()
    return told


def _changes(order: Ints, is_changed: Bools) -> Ints:
    return np.cumsum(is_changed[order]).astype(np.int64)
