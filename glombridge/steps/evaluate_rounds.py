"""``evaluate --rounds``: how the detector grew, always on the frozen test patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import GlombridgeError, InputError
from ..evaluation.results import GROWTH
from ..ledger import State
from ..ledger.history import utc_now
from ..ledger.manifest import write_json
from ..progress import SILENT, Reporter
from ..scale import on_cluster
from .evaluate_model import evaluated, held_out_images, load_run
from .project import Project

DOCUMENT = "learning_curve.json"
_NOBODYS = (State.LOST.value, State.WITHDRAWN.value)


@dataclass(frozen=True)
class Round:
    """One training run on the test slides.

    Attributes:
        decisions: what humans had drawn, judged, edited or removed on the images of training and
            validation patients before the run's tiles were cut; ``None`` = not on record.
        figures: value and interval by name.
    """

    run: str
    decisions: int | None
    confidence: float
    figures: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run": self.run,
            "decisions": self.decisions,
            "confidence": self.confidence,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True)
class RoundsResult:
    """Every training run of the project, oldest first.

    Attributes:
        patients, slides, objects: of the test part; the same for every round.
        left_out: runs that could not be evaluated, and why.
    """

    rounds: tuple[Round, ...]
    patients: int
    slides: int
    objects: int
    left_out: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "part": "test",
            "patients": self.patients,
            "slides": self.slides,
            "objects": self.objects,
            "rounds": [r.as_dict() for r in self.rounds],
            "left_out": [{"run": run, "reason": why} for run, why in self.left_out],
        }


def evaluate_rounds(
    project: Project,
    *,
    device: str | None = None,
    cluster: str | None = None,
    reporter: Reporter = SILENT,
) -> RoundsResult:
    """Evaluate the weights of every round against the annotations as they are now.

    Raw boxes that an earlier evaluation kept are used again. Writes ``learning_curve.json`` among
    the reports.

    Args:
        project: the project.
        device: as torch names it; ``None`` = a GPU where there is one.
        cluster: where slides are looked at: ``local`` or the address of a Dask scheduler.
        reporter: for progress.

    Raises:
        InputError: no training run, no test slide with objects, or not one run can be evaluated.
    """
    runs = project.workspace.finished_runs(project.workspace.runs, "train")
    held_out = held_out_images(project, reporter=reporter)
    n_objects = sum(len(x.image.roles.truth) for x in held_out if x.part == "test")
    if not n_objects:
        msg = (
            "the test slides hold no objects, so nothing can grow on them. Annotate slides of a test "
            "patient; 'glombridge status' counts the patients of each part."
        )
        raise InputError(msg)
    decisions = decisions_before(project)
    chosen = project.settings.evaluate
    rounds: list[Round] = []
    left_out: list[tuple[str, str]] = []
    n_patients = n_slides = 0
    with on_cluster(cluster, reporter) as workers:
        for run in runs:
            try:
                file, manifest = load_run(project, run.name)
                model = evaluated(project, file, manifest, held_out, device, reporter, workers)
            except GlombridgeError as error:
                left_out.append((run.name, str(error)))
                continue
            told = model.results("test", chosen.iou).figures(
                project.settings.class_names, resamples=chosen.resamples, seed=project.settings.seed
            )
            n_patients, n_slides = told["patients"], told["slides"]
            figures = {name: told["figures"][name] for name in GROWTH}
            rounds.append(Round(run.name, decisions.get(run.name), model.point.confidence, figures))
    if not rounds:
        reasons = "".join(f"\n  {run}: {why}" for run, why in left_out)
        msg = (
            f"not one training run of {project.workspace.project_folder} can be evaluated.{reasons}"
        )
        raise InputError(msg)
    result = RoundsResult(tuple(rounds), n_patients, n_slides, n_objects, tuple(left_out))
    project.workspace.reports.mkdir(exist_ok=True)
    document = {**result.as_dict(), "finished": utc_now()}
    write_json(project.workspace.reports / DOCUMENT, document)
    return result


def decisions_before(project: Project) -> dict[str, int]:
    """Human decisions that each training run could have learnt from, by run."""
    parts = project.parts()
    taught = {
        e.id for e in project.store.images() if parts.get(project.patient(e)) in ("train", "val")
    }
    return count_decisions(project.workspace.history.events("review", "tile", "train"), taught)


def count_decisions(events: Iterable[Mapping[str, Any]], images: set[int]) -> dict[str, int]:
    """Count what humans did on some images before the tiles of each training run were cut.

    Args:
        events: ``review``, ``tile`` and ``train`` of the history, oldest first.
        images: entry ids.
    """
    total = 0
    at_tiles: dict[str, int] = {}
    at_run: dict[str, int] = {}
    for event in events:
        if event["event"] == "review" and event["image"] in images:
            # A grade teaches the detector nothing.
            total += sum(
                d["to"] not in _NOBODYS and not d.get("regraded") for d in event["decisions"]
            )
        elif event["event"] == "tile":
            at_tiles[event["dataset"]] = total
        elif event["event"] == "train" and event.get("dataset") in at_tiles:
            at_run[event["run"]] = at_tiles[event["dataset"]]
    return at_run
