"""From scores to probabilities: what share of the detections with this score are objects.

Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, ICML 2017) has one free
number and works with few objects. Isotonic regression follows any rising curve and needs many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..detection.boxes import Bools, Floats

LEAST_FOR_ISOTONIC = 200
"""Objects on the validation slides, below which isotonic regression follows chance."""

_EDGE = 1e-6
_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """How to read scores.

    Attributes:
        temperature: the log odds of a score are divided by it; above 1 the model is too sure.
        steps: of isotonic regression: scores and their probabilities, straight lines between them;
            they are used instead of the temperature where there are any.
        n_detections, n_objects: what it was made of.
    """

    temperature: float
    steps: tuple[tuple[float, float], ...] = ()
    n_detections: int = 0
    n_objects: int = 0

    @property
    def method(self) -> str:
        """``temperature`` or ``isotonic``."""
        return "isotonic" if self.steps else "temperature"

    def probability(self, score: Floats) -> Floats:
        """(N,) probability that a detection with this score is an object."""
        if self.steps:
            x, y = np.array(self.steps).T
            return np.asarray(np.interp(score, x, y), np.float64)
        return _cooled(score, self.temperature)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": self.method,
            "temperature": round(self.temperature, 6),
            "steps": [[round(x, 6), round(y, 6)] for x, y in self.steps],
            "detections": self.n_detections,
            "objects": self.n_objects,
            "chosen_on": "validation slides",
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Calibration:
        """What :meth:`as_dict` wrote."""
        steps = tuple((float(x), float(y)) for x, y in told["steps"])
        return cls(float(told["temperature"]), steps, int(told["detections"]), int(told["objects"]))


@dataclass(frozen=True)
class Reliability:
    """Detections grouped by the probability they claim.

    Attributes:
        claimed, true: (bins,) mean probability, and share that are objects.
        n: (bins,) detections in each.
        error: mean distance of the two, weighted by ``n`` (expected calibration error).
    """

    claimed: tuple[float, ...]
    true: tuple[float, ...]
    n: tuple[int, ...]
    error: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "claimed": [round(v, 6) for v in self.claimed],
            "true": [round(v, 6) for v in self.true],
            "n": list(self.n),
            "error": None if self.error is None else round(self.error, 6),
        }


def calibrate(score: Floats, is_true: Bools, *, n_objects: int) -> Calibration | None:
    """Fit on the detections of the validation slides.

    Args:
        score: (N,) of every detection that counts, also the low ones.
        is_true: (N,) whether it found an object.
        n_objects: true objects on the slides; from :data:`LEAST_FOR_ISOTONIC` on, isotonic.

    Returns:
        ``None`` where all detections are true or all are false: nothing can be told apart.
    """
    if not len(score) or is_true.all() or not is_true.any():
        return None
    temperature = _best_temperature(score, is_true)
    steps: tuple[tuple[float, float], ...] = ()
    if n_objects >= LEAST_FOR_ISOTONIC:
        steps = _isotonic(score, is_true)
    return Calibration(temperature, steps, len(score), n_objects)


def reliability(probability: Floats, is_true: Bools) -> Reliability:
    """Group detections by ten equal ranges of probability; empty ones are left out."""
    group = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
    used = np.unique(group)
    claimed = tuple(float(probability[group == g].mean()) for g in used)
    true = tuple(float(is_true[group == g].mean()) for g in used)
    n = tuple(int((group == g).sum()) for g in used)
    apart = np.abs(np.array(claimed) - np.array(true))
    error = float(np.average(apart, weights=n)) if n else None
    return Reliability(claimed, true, n, error)


def _best_temperature(score: Floats, is_true: Bools) -> float:
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        p = np.clip(_cooled(score, float(np.exp(log_temperature))), 1e-12, 1 - 1e-12)
        return float(-np.log(np.where(is_true, p, 1 - p)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def _cooled(score: Floats, temperature: float) -> Floats:
    inside = np.clip(score, _EDGE, 1 - _EDGE)
    odds = np.log(inside) - np.log1p(-inside)
    cooled: Floats = 1 / (1 + np.exp(-odds / temperature))
    return cooled


def _isotonic(score: Floats, is_true: Bools) -> tuple[tuple[float, float], ...]:
    from scipy.optimize import isotonic_regression

    x, number, n = np.unique(score, return_inverse=True, return_counts=True)
    share = np.bincount(number, is_true) / n
    y = isotonic_regression(share, weights=n).x
    # Only the corners: where neither neighbour differs, a straight line says the same.
    corner = np.ones(len(x), np.bool_)
    corner[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return tuple(zip(x[corner].tolist(), y[corner].tolist(), strict=True))
