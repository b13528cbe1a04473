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
from .orders import chance, disagreement, doubt
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


RANDOM = "random"
"""The order that the others are compared with."""


def queue_orders(
    ranking: Ranking, confidence: float, *, seed: int = 0, rival_sees: Bools | None = None
) -> dict[str, Ints]:
    """Orders of review to compare, each a permutation of the detections.

    Args:
        ranking: detections of all slides, best first.
        confidence: the detector works at.
        seed: of the random order.
        rival_sees: (N,) whether another model detects the same, ``None`` = no other has looked.

    Returns:
        By name; ``random``, ``uncertainty`` and ``disagreement`` are the strategies of
        ``glombridge queue``.
    """
    n = len(ranking.score)
    doubts = doubt(ranking.score, confidence, ranking.score_sd)
    orders = {
        RANDOM: np.argsort(chance(range(n), seed), kind="stable"),
        "surest first": np.arange(n),
        "slide by slide": np.lexsort((np.arange(n), ranking.slide)),
        "uncertainty": np.argsort(-doubts, kind="stable"),
    }
    if rival_sees is not None:
        # Each model sees what it is sure enough of; what neither does, both agree about.
        votes = (ranking.score >= confidence).astype(np.int64) + rival_sees
        bits = disagreement(votes, np.full(n, 2, np.int64))
        orders["disagreement"] = np.lexsort((np.arange(n), -doubts, -bits))
    return orders


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
    ranking: Ranking, confidence: float, *, seed: int = 0, rival_sees: Bools | None = None
) -> Mapping[str, Any] | None:
    """Every order of :func:`queue_orders` and its gain over random, for JSON; ``None`` without objects.

    The gain is a difference of mean F1, and negative where random is better.
    """
    curves = {}
    for name, order in queue_orders(ranking, confidence, seed=seed, rival_sees=rival_sees).items():
        curve = review(ranking, order, confidence)
        if curve is None:
            return None
        curves[name] = curve
    base = curves[RANDOM].mean_f1
    return {
        name: {**curve.as_dict(), "gain_over_random": round(curve.mean_f1 - base, 6)}
        for name, curve in curves.items()
    }


def _changes(order: Ints, is_changed: Bools) -> Ints:
    return np.cumsum(is_changed[order]).astype(np.int64)
