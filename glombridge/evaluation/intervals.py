"""Intervals by resampling patients: slides of one patient are alike and must not count as many.

Percentile bootstrap over clusters (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 8 and 13): each resample draws as many patients as there are, with replacement, and a
patient brings all of its slides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..detection.boxes import Floats

LEVEL = 0.95
RESAMPLES = 1000

Statistic = Callable[[Floats], float | None]
"""A figure of (patients,) weights: how often each patient counts. ``None`` = not defined."""


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of what resampled patients give."""

    low: float
    high: float

    def as_list(self) -> list[float]:
        """For JSON, six digits."""
        return [round(self.low, 6), round(self.high, 6)]


@dataclass(frozen=True)
class Difference:
    """One figure of two detectors on the same slides.

    Attributes:
        value: second minus first.
        interval: of the difference, both resampled together; ``None`` with fewer than two patients.
        second_better: share of the resamples in which the second has the higher figure, ties half.
    """

    value: float
    interval: Interval | None
    second_better: float | None


def patient_resamples(n_patients: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """(resamples, patients) how often each patient was drawn; the same seed, the same draws."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)
    weights: Floats = drawn.astype(np.float64)
    return weights


def intervals(
    statistics: Mapping[str, Statistic],
    n_patients: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """The interval of each figure.

    Returns:
        By name; ``None`` with fewer than two patients, of whom nothing can be said, or where most
        resamples leave the figure undefined.
    """
    if n_patients < 2:
        return dict.fromkeys(statistics)
    weights = patient_resamples(n_patients, resamples=resamples, seed=seed)
    return {name: _middle(_values(s, weights)) for name, s in statistics.items()}


def difference(
    first: Statistic,
    second: Statistic,
    n_patients: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference | None:
    """Compare a figure of two detectors on the same patients; ``None`` where one is not defined."""
    once = np.ones(n_patients)
    a, b = first(once), second(once)
    if a is None or b is None:
        return None
    if n_patients < 2:
        return Difference(b - a, None, None)
    weights = patient_resamples(n_patients, resamples=resamples, seed=seed)
    apart = _values(second, weights) - _values(first, weights)
    known = apart[np.isfinite(apart)]
    better = float((known > 0).mean() + (known == 0).mean() / 2) if len(known) else None
    return Difference(b - a, _middle(apart), better)


def _values(statistic: Statistic, weights: Floats) -> Floats:
    values = [statistic(w) for w in weights]
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _middle(values: Floats) -> Interval | None:
    known = values[np.isfinite(values)]
    if len(known) < len(values) / 2:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
