"""Cohen's kappa, plain and weighted, from a table of counts.

Cohen, A coefficient of agreement for nominal scales, Educ Psychol Meas 20 (1960) 37-46; weighted:
Cohen, Psychol Bull 70 (1968) 213-220. Linear weights charge a disagreement by the number of grades
between the two, quadratic ones by its square.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from ..detection.boxes import Floats


class Weights(str, Enum):
    """What a disagreement between two grades costs."""

    NONE = "none"
    """The same, however far apart they are: Cohen's kappa."""
    LINEAR = "linear"
    QUADRATIC = "quadratic"


def cohen_kappa(table: Floats, weights: Weights = Weights.NONE) -> float | None:
    """Agreement beyond chance of two readers.

    Args:
        table: (K, K) how often the first reader gave grade i and the second grade j; any weights of
            cases, not only whole numbers.
        weights: what a disagreement costs.

    Returns:
        1 = they always agree, 0 = as by chance. ``None`` where it is not defined: no cases, or both
        readers gave one and the same grade to all, so that chance agrees as well.
    """
    total = table.sum()
    if not total:
        return None
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    cost = _costs(len(table), weights)
    # Both readers constant and alike is the only way to no expected cost, and that comes out exactly.
    by_chance = float((cost * expected).sum())
    return None if by_chance == 0 else 1 - float((cost * table).sum()) / by_chance


def table_of(first: Floats, second: Floats, grades: int) -> Floats:
    """(K, K) counts of the grades that two readers gave to the same objects.

    Args:
        first, second: (N,) grades from 0 on.
        grades: K.
    """
    table = np.zeros((grades, grades))
    np.add.at(table, (first.astype(np.int64), second.astype(np.int64)), 1.0)
    return table


def _costs(grades: int, weights: Weights) -> Floats:
    grade = np.arange(grades)
    apart: Floats = np.abs(grade[:, None] - grade[None, :]).astype(np.float64)
    if weights is Weights.NONE:
        return (apart > 0).astype(np.float64)
    return apart if weights is Weights.LINEAR else apart**2
