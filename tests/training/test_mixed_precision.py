"""Training with a gradient scaler, as far as torch has one for a CPU, resumes to the byte.

On a GPU ultralytics makes the scaler itself; here it is put in where ultralytics has just made the one that
is switched off, and everything from there on is the real path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from killed import OPTIONS
from tiny_dataset import write_tiny_dataset

from glombridge.training import resume, train
from glombridge.training.checkpoint import load_state
from glombridge.training.sandbox import load_ultralytics

START_SCALE = 512.0


class StoppedError(Exception):
    """Stands for a kill."""


class Reporter:
    """Stops a training when the epoch of a number, from 1, has been saved."""

    def __init__(self, after: int | None = None) -> None:
        self._after = after

    def task(self, *_: object) -> Reporter:
        return self

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        if note is not None and note.startswith(f"epoch {self._after}/"):
            raise StoppedError


@pytest.fixture
def scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_ultralytics(tmp_path / "cache")
    from glombridge.training import engine

    class ScaledTrainer(engine.DetectTrainer):
        def _build_train_pipeline(self: Any) -> None:
            self.amp = True
            # Grows after three steps without an overflow: in each epoch of four, so there is a state.
            self.scaler = torch.amp.GradScaler("cpu", init_scale=START_SCALE, growth_interval=3)
            super()._build_train_pipeline()

    monkeypatch.setattr(engine, "DetectTrainer", ScaledTrainer)


@pytest.mark.usefixtures("scaled")
def test_the_scaler_is_part_of_the_state(tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "data")
    whole = train(data, tmp_path / "whole", OPTIONS, cache=tmp_path / "cache")
    killed = tmp_path / "killed"
    with pytest.raises(StoppedError):
        train(data, killed, OPTIONS, cache=tmp_path / "cache", reporter=Reporter(2))
    state = load_state(killed / "work")
    assert state is not None
    assert state["epoch"] == 1
    # Eight steps: grown twice, and two steps on the way to the third time.
    assert state["scaler"]["scale"] == 4 * START_SCALE
    assert state["scaler"]["_growth_tracker"] == 2
    del state
    assert resume(killed, cache=tmp_path / "cache").sha256 == whole.sha256


def test_what_was_begun_without_a_scaler_goes_on_with_one(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # As a training that was begun on a CPU and is resumed on a GPU.
    data = write_tiny_dataset(tmp_path / "data")
    run = tmp_path / "run"
    with pytest.raises(StoppedError):
        train(data, run, OPTIONS, cache=tmp_path / "cache", reporter=Reporter(2))
    state = load_state(run / "work")
    assert state is not None
    assert state["scaler"] == {}
    del state
    request.getfixturevalue("scaled")
    assert resume(run, cache=tmp_path / "cache").epochs == OPTIONS.epochs
