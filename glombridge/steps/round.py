"""``round``: the whole circle once."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DeviceError, ProtectedError
from ..ledger.running_qupath import refuse_while_qupath_runs
from ..progress import SILENT, Reporter
from ..review.queue_writing import QueueResult
from ..settings import PAPER_TILES, SplitSettings
from ..sync.guards import Guards
from ..sync.push import PushResult
from ..training import TrainOptions, TrainResult, paper_options
from .detect import DetectResult, detect
from .evaluate import EvaluateResult, evaluate
from .project import Project
from .push import push
from .queue import queue
from .tile import TileResult, tile
from .train import go_on_or_train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundResult:
    """One walk of the loop."""

    tile: TileResult
    train: TrainResult
    evaluate: EvaluateResult
    detect: DetectResult
    push: PushResult
    queue: QueueResult

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "tile": self.tile.as_dict(),
            "train": {
                "run": self.train.run.name,
                "weights_sha256": self.train.sha256,
                "seconds": round(self.train.seconds, 1),
            },
            "evaluate": self.evaluate.as_dict(),
            "detect": self.detect.as_dict(),
            "push": self.push.as_dict(),
            "queue": self.queue.as_dict(),
        }


def paper_round(
    project: Project, options: TrainOptions, model: str | None = None
) -> tuple[Project, TrainOptions]:
    """A project and options with which a round repeats the paper: its tiles, its split, its model.

    Args:
        project: whose other settings stay.
        options: what else is wanted of the training.
        model: YOLOv5 Large by default.
    """
    settings = project.settings
    changes = {
        "tiles": settings.tiles.changed(PAPER_TILES),
        "split": SplitSettings(stain_key=settings.split.stain_key),
    }
    return (
        replace(project, settings=settings.model_copy(update=changes)),
        paper_options(options, model),
    )


def walk_round(
    project: Project,
    *,
    options: TrainOptions | None = None,
    device: str | None = None,
    while_qupath_runs: bool = False,
    reporter: Reporter = SILENT,
) -> RoundResult:
    """Pull, tile, train, evaluate, detect, push and queue, once.

    A round that was interrupted while it trained goes on with that training, and one that was interrupted
    later with what came of it, if nothing has changed that it was trained on or with. (What was pushed
    changes the tiles: from there on ``status`` names what is left to do.)

    Args:
        project: the project.
        options: of the training; by default what the settings say.
        device: to evaluate and detect on, as torch names it; ``None`` = a GPU where there is one.
        while_qupath_runs: the project is not open in the QuPath that runs.
        reporter: for progress.

    Raises:
        GlombridgeError: whatever step fails; what the steps before it made stays.
    """
    guards = Guards(while_qupath_runs=while_qupath_runs)
    _warn_of_qupath(guards)
    tiled = tile(project, reporter=reporter)
    trained = go_on_or_train(project, tiled.dataset.folder, options=options, reporter=reporter)
    run = trained.run.name
    try:
        evaluated = evaluate(project, weights=run, device=device, reporter=reporter)
        detected = detect(project, weights=run, device=device, reporter=reporter)
    except DeviceError as error:
        msg = (
            f"{error} This was in a round whose training, {run}, is finished: 'glombridge status' names the "
            "commands that finish it, and another round goes on with it."
        )
        raise DeviceError(msg) from error
    pushed = push(project, detected.folder, guards=guards, reporter=reporter)
    ranked = queue(project, skip_bad=True, guards=guards, reporter=reporter)
    return RoundResult(tiled, trained, evaluated, detected, pushed, ranked)


def _warn_of_qupath(guards: Guards) -> None:
    """Said now, while somebody looks: the push may be a night away, and QuPath closed by then."""
    try:
        refuse_while_qupath_runs(allow=guards.while_qupath_runs)
    except ProtectedError as error:
        log.warning(
            "%s This round will be refused when it comes to push; given again, it goes on from there.",
            error,
        )
