"""Scores become probabilities; isotonic only with enough objects."""

from __future__ import annotations

import numpy as np
import pytest

from glombridge.evaluation.calibration import Calibration, calibrate, reliability


def overconfident(n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a model whose log odds are too large by a factor, and what is true."""
    rng = np.random.default_rng(1)
    odds = rng.normal(0, 1.5, n)
    true = rng.random(n) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-odds * temperature)), true


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(temperature: float) -> None:
    score, true = overconfident(20000, temperature)
    found = calibrate(score, true, n_objects=100)
    assert found is not None
    assert found.method == "temperature"
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    before = reliability(score, true).error
    after = reliability(found.probability(score), true).error
    assert after is not None
    assert before is not None
    assert after < 0.02
    assert after <= before + 0.005


@pytest.mark.parametrize(
    ("n_objects", "method"), [(199, "temperature"), (200, "isotonic"), (5000, "isotonic")]
)
def test_isotonic_needs_objects(n_objects: int, method: str) -> None:
    score, true = overconfident(1000, 2)
    found = calibrate(score, true, n_objects=n_objects)
    assert found is not None
    assert found.method == method


@pytest.mark.parametrize("n_objects", [50, 500])
def test_a_higher_score_is_never_less_probable_and_json_keeps_it(n_objects: int) -> None:
    score, true = overconfident(1000, 2)
    found = calibrate(score, true, n_objects=n_objects)
    assert found is not None
    at = np.linspace(0, 1, 101)
    probability = found.probability(at)
    assert (np.diff(probability) >= 0).all()
    assert ((probability >= 0) & (probability <= 1)).all()
    read = Calibration.from_dict(found.as_dict())
    assert read.probability(at) == pytest.approx(probability, abs=1e-4)


@pytest.mark.parametrize("true", [[], [True, True], [False, False]], ids=str)
def test_nothing_to_tell_apart(true: list[bool]) -> None:
    assert calibrate(np.full(len(true), 0.5), np.array(true, bool), n_objects=2) is None


def test_reliability_counts_every_detection_once() -> None:
    told = reliability(np.array([0.0, 0.04, 0.55, 1.0]), np.array([False, False, True, True]))
    assert told.n == (2, 1, 1)
    assert told.claimed == (0.02, 0.55, 1.0)
    assert told.true == (0.0, 1.0, 1.0)
    assert told.error == pytest.approx((2 * 0.02 + 0.45) / 4)
