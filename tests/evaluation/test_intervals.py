"""Intervals resample patients: the same seed gives the same, and slides of one patient stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.evaluation.intervals import difference, intervals, patient_resamples


def mean_of(values: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda w: float(w @ values / w.sum()) if w.sum() else None


def test_the_same_seed_gives_the_same() -> None:
    values = np.arange(12.0)
    first = intervals({"a": mean_of(values)}, 12, seed=3)
    assert first == intervals({"a": mean_of(values)}, 12, seed=3)
    assert first != intervals({"a": mean_of(values)}, 12, seed=4)


@given(st.integers(2, 40), st.integers(0, 100))
def test_each_resample_has_as_many_patients(n: int, seed: int) -> None:
    weights = patient_resamples(n, resamples=50, seed=seed)
    assert weights.shape == (50, n)
    assert (weights.sum(axis=1) == n).all()


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        found = intervals({"m": mean_of(rng.normal(5, 2, 40))}, 40, resamples=400, seed=seed)["m"]
        assert found is not None
        held += found.low <= 5 <= found.high
    # Of 300, 95 % +- three standard deviations, and the percentile bootstrap is a little too narrow.
    assert 0.89 <= held / 300 <= 0.99


def test_of_one_patient_nothing_can_be_said() -> None:
    assert intervals({"a": mean_of(np.ones(1))}, 1) == {"a": None}
    assert intervals({"a": mean_of(np.ones(0))}, 0) == {"a": None}


def test_a_figure_that_is_mostly_undefined_has_no_interval() -> None:
    only_first = {"a": lambda w: 1.0 if w[0] >= 2 else None}
    assert intervals(only_first, 10) == {"a": None}


def test_pairing_sees_what_two_intervals_cannot() -> None:
    # Patients differ much, the second detector is a little better on each of them.
    values = np.linspace(0.2, 0.9, 15)
    told = difference(mean_of(values), mean_of(values + 0.02), 15)
    assert told is not None
    assert told.value == pytest.approx(0.02)
    assert told.interval is not None
    assert told.interval.low == pytest.approx(0.02)
    assert told.second_better == 1.0
    alone = intervals({"a": mean_of(values), "b": mean_of(values + 0.02)}, 15)
    assert alone["a"].high > alone["b"].low  # type: ignore[union-attr]


def test_a_detector_against_itself() -> None:
    values = np.linspace(0.2, 0.9, 15)
    told = difference(mean_of(values), mean_of(values), 15)
    assert told is not None
    assert (told.value, told.second_better) == (0.0, 0.5)
