"""What to train, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

PAPER_TILE_PX = (1600, 1200)
"""Width and height of the paper's tiles."""


@dataclass(frozen=True)
class TrainOptions:
    """What to train and how long.

    Attributes:
        model: name of an architecture (``yolo11n``, ``yolov5l``, ``rtdetr-l``, ``glom-pico``), a
            ``.yaml`` configuration, or a ``.pt`` file to start from.
        start_from: weights of an earlier run to go on from, in place of ``model``: its classes must
            be the dataset's.
        pretrained: start a named architecture from its published weights; ``None`` = where they
            are on this machine.
        allow_download: those weights may be fetched from the network.
        preset: ``"paper"`` holds the dataset to the paper's tiles.
        epochs: at most.
        patience: stop after so many epochs without a better one; 0 = never.
        batch: tiles per step; ``None`` = as many as fit a GPU, 8 on a CPU.
        learning_rate: ``None`` = 0.002, or 0.0005 from weights.
        validate: look at the validation tiles after each epoch and keep the best epoch; without
            it the last epoch is kept.
        device: as torch names it (``cpu``, ``0``, ``0,1``); ``None`` = a GPU if there is one.
    """

    model: str = "yolo11n"
    start_from: Path | None = None
    pretrained: bool | None = None
    allow_download: bool = False
    preset: Literal["paper"] | None = None
    epochs: int = 100
    patience: int = 30
    batch: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    threads: int | None = None
    validate: bool = True
    device: str | None = None

    def as_plan(self) -> dict[str, Any]:
        """As JSON keeps it, to go on with after an interruption."""
        return {**vars(self), "start_from": str(self.start_from) if self.start_from else None}

    def as_dict(self) -> dict[str, Any]:
        """For manifests; of a file only its name, of a run its id."""
        run = self.start_from.parent.parent.name if self.start_from else None
        return {**vars(self), "model": Path(self.model).name, "start_from": run}


def paper_options(options: TrainOptions, model: str | None = None) -> TrainOptions:
    """The paper's training: YOLOv5 Large (or XLarge, by name) on its tiles, from published weights.

    The paper says no more about its training than that, so the rest stays glombridge's.
    """
    return replace(options, preset="paper", model=model or "yolov5l")


@dataclass(frozen=True)
class TrainResult:
    """A finished training run.

    Attributes:
        run: folder of the run, holding ``weights/best.pt``, ``results.csv`` and ``manifest.json``.
        weights: the weights file.
        seconds: wall time of the training, interruptions left out.
        parameters: number of trained parameters.
        epochs: that were done; fewer than asked for where nothing got better.
        best_epoch: whose weights were kept, from 1.
        notes: what a reader of the results should know, one sentence each.
    """

    run: Path
    weights: Path
    sha256: str
    seconds: float
    parameters: int
    epochs: int
    best_epoch: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run.name,
            "weights": str(self.weights),
            "sha256": self.sha256,
            "parameters": self.parameters,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 1),
            "notes": list(self.notes),
        }
