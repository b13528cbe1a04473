"""The demo's detector is good enough on slides nobody showed it, for several seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from glombridge.demo.run import run_demo


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_precision_and_recall_on_held_out_slides(tmp_path: Path, seed: int) -> None:
    result = run_demo(tmp_path / "demo", seed=seed)
    score = result.held_out
    assert score.truth >= 100
    assert score.precision is not None
    assert score.recall is not None
    assert score.precision > 0.85, score
    assert score.recall > 0.85, score
