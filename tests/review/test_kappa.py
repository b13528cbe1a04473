"""Kappa against scikit-learn, and where it is not defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from glombridge.review.kappa import Weights, cohen_kappa, table_of

SKLEARN = {Weights.NONE: None, Weights.LINEAR: "linear", Weights.QUADRATIC: "quadratic"}


@pytest.mark.parametrize("weights", list(Weights), ids=lambda w: w.value)
@pytest.mark.parametrize("grades", [2, 3, 4, 6])
def test_like_scikit_learn(weights: Weights, grades: int) -> None:
    rng = np.random.default_rng(grades)
    for n in (3, 10, 200, 3000):
        for agreement in (0.0, 0.5, 0.95):
            first = rng.integers(0, grades, n)
            second = np.where(rng.random(n) < agreement, first, rng.integers(0, grades, n))
            ours = cohen_kappa(table_of(first.astype(float), second.astype(float), grades), weights)
            theirs = cohen_kappa_score(
                first, second, labels=list(range(grades)), weights=SKLEARN[weights]
            )
            if np.isnan(theirs):
                assert ours is None
            else:
                assert ours == pytest.approx(theirs, abs=1e-12)


# Worked by hand from the definition, 1 - sum(cost * observed) / sum(cost * expected).
BY_HAND = [
    # po = 35/50, pe = (25 * 30 + 25 * 20) / 50**2 = 0.5
    pytest.param([[20, 5], [10, 15]], Weights.NONE, 0.4, id="two-grades"),
    pytest.param([[0, 5], [0, 0]], Weights.NONE, 0.0, id="always-apart"),
    # observed cost 1 + 2 = 3; expected, rows 4 1 1 and columns 2 2 2 of 6: (24 + 4 + 6) / 6 = 34 / 6
    pytest.param([[2, 1, 1], [0, 1, 0], [0, 0, 1]], Weights.LINEAR, 1 - 3 / (34 / 6), id="linear"),
]


@pytest.mark.parametrize(("table", "weights", "kappa"), BY_HAND)
def test_by_hand(table: list[list[int]], weights: Weights, kappa: float) -> None:
    assert cohen_kappa(np.array(table, float), weights) == pytest.approx(kappa, abs=1e-12)


UNDEFINED = [
    pytest.param(np.zeros((2, 2)), id="no-cases"),
    pytest.param(np.array([[7.0, 0], [0, 0]]), id="both-always-0"),
    pytest.param(np.array([[0.0, 0], [0, 3.3]]), id="both-always-1"),
]


@pytest.mark.parametrize("weights", list(Weights), ids=lambda w: w.value)
@pytest.mark.parametrize("table", UNDEFINED)
def test_undefined_is_neither_one_nor_nought(table: np.ndarray, weights: Weights) -> None:
    assert cohen_kappa(table, weights) is None
