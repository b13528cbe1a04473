"""Detection by the workers of a cluster: a slide a piece, read where the model is.

Decoded tiles are some ten times the slide file, so no tile travels: the worker that holds the model
decodes for it, with threads of its own, and writes the slide's files itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..scale import Cluster, Outcome, Piece, Tell
from .detect_run import WORK
from .detect_targets import Target
from .detect_work import Emit, Job, about, detect_all
from .held_model import HeldModel, decoders_beside, held, model_versions


@dataclass(frozen=True)
class DetectOrder:
    """One slide to detect on.

    Attributes:
        workers: threads that decode; ``None`` = one beside a CPU model, what a GPU can take
            otherwise.
    """

    target: Target
    job: Job
    model: HeldModel
    workers: int | None


def detect_on_cluster(
    targets: Sequence[Target],
    job: Job,
    model: HeldModel,
    workers: int | None,
    cluster: Cluster,
    emit: Emit,
) -> None:
    """Detect on slides, each on whatever worker is free; the events are those of one machine.

    Raises:
        MachineError: as :meth:`.Cluster.each`.
    """
    plan = job.folder / WORK / "plan.json"

    def piece_of(target: Target) -> Piece[DetectOrder]:
        slide = Path(target.path or target.name).absolute()
        order = DetectOrder(replace(target, path=slide), job, model, workers)
        return Piece(target.name, order, (plan, model.weights, slide))

    done_of: dict[int, int] = {}

    def told(piece: Piece[DetectOrder], done: int, of: int) -> None:
        target = piece.value.target
        before = done_of.get(target.id)
        if before is None or done < before:
            emit({"event": "begin", **about(target), "tiles": of})
            before = 0
        done_of[target.id] = done
        if done > before:
            emit({"event": "tiles", **about(target), "n": done - before, "of": of})

    def take(outcome: Outcome[DetectOrder, dict[str, Any]]) -> None:
        piece, image = outcome.piece, outcome.result
        target = piece.value.target
        by = {"worker": outcome.worker} if outcome.worker else {}
        if image is None:
            emit({"event": "failed", **about(target), "reason": str(outcome.error), **by})
            return
        told(piece, image["tiles_shown"], image["tiles_shown"])  # the last word may be a second old
        emit({"event": "slide", **about(target), "image": image, **by})

    cluster.each(
        detect_piece,
        map(piece_of, targets),
        take,
        facts=model_versions,
        with_model=True,
        on_progress=told,
    )


def detect_piece(order: DetectOrder, tell: Tell) -> dict[str, Any]:
    """Detect on one slide and write its files; gives what :class:`.DetectedImage` says of it.

    Raises:
        InputError: the slide cannot be read.
        MachineError: a file cannot be written, or out of memory.
    """
    detector = held(order.model)
    job = replace(order.job, workers=order.workers or decoders_beside(detector))
    images: list[dict[str, Any]] = []
    done = of = 0

    def emit(event: dict[str, Any]) -> None:
        nonlocal done, of
        if event["event"] == "begin":
            of = event["tiles"]
        elif event["event"] == "tiles":
            done += event["n"]
        elif event["event"] == "slide":
            images.append(event["image"])
            return
        else:
            raise InputError(event["reason"])
        tell(done, of)

    detect_all([order.target], job, detector, emit)
    return images[0]
