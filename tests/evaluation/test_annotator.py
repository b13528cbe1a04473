"""The simulated annotator is always right, so every order ends at the same place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.evaluation.annotator import compare_orders, queue_orders, review
from glombridge.evaluation.ranking import Ranking


def ranking(seed: int, n: int, missed: int = 3) -> Ranking:
    rng = np.random.default_rng(seed)
    score = np.sort(rng.random(n))[::-1]
    true = rng.random(n) < score
    slide = rng.integers(0, 3, n)
    per_slide = np.bincount(slide[true], minlength=3)
    per_slide[0] += missed
    return Ranking(score, true, slide, per_slide)


@given(st.integers(0, 1000), st.integers(0, 60), st.floats(0.1, 0.9))
def test_orders_are_permutations_from_one_beginning_to_one_end(
    seed: int, n: int, confidence: float
) -> None:
    ranked = ranking(seed, n)
    curves = {}
    for name, order in queue_orders(ranked, confidence).items():
        assert sorted(order.tolist()) == list(range(n))
        curve = review(ranked, order, confidence)
        assert curve is not None
        assert len(curve.f1) == n + 1
        # Right decisions never make it worse.
        assert (np.diff(curve.f1) >= -1e-12).all()
        curves[name] = curve
    works = ranked.score >= confidence
    found = (works & ranked.is_true).sum()
    begin = 2 * found / (ranked.n_truth.sum() + works.sum())
    end = 2 * ranked.is_true.sum() / (ranked.n_truth.sum() + ranked.is_true.sum())
    for curve in curves.values():
        assert curve.f1[0] == pytest.approx(begin)
        assert curve.f1[-1] == pytest.approx(end)


def test_doubt_first_beats_the_sure_ones_first() -> None:
    told = compare_orders(ranking(1, 400), 0.5)
    assert told is not None
    doubt = told["uncertainty"]
    assert doubt["mean_f1"] > told["surest first"]["mean_f1"]
    assert doubt["mean_f1"] > told["random"]["mean_f1"]
    assert doubt["to_half"] < told["random"]["to_half"]
    gain = doubt["mean_f1"] - told["random"]["mean_f1"]
    assert doubt["gain_over_random"] == pytest.approx(gain, abs=2e-6)
    assert told["random"]["gain_over_random"] == 0


def test_a_rival_that_is_always_right_points_at_every_error() -> None:
    ranked = ranking(1, 400)
    orders = queue_orders(ranked, 0.5, rival_sees=ranked.is_true)
    wrong = (ranked.score >= 0.5) != ranked.is_true
    assert wrong[orders["disagreement"][: wrong.sum()]].all()
    told = compare_orders(ranked, 0.5, rival_sees=ranked.is_true)
    assert told is not None
    assert told["disagreement"]["gain_over_random"] > told["uncertainty"]["gain_over_random"]


def test_orders_reproduce_with_one_seed() -> None:
    ranked = ranking(1, 400)
    first, second, other = (queue_orders(ranked, 0.5, seed=s) for s in (3, 3, 4))
    for name, order in first.items():
        assert (order == second[name]).all()
        assert (order == other[name]).all() == (name != "random")


def test_without_objects_there_is_nothing_to_gain() -> None:
    none = Ranking(np.array([0.5]), np.array([False]), np.array([0]), np.array([0]))
    assert compare_orders(none, 0.4) is None
