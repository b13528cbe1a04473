"""``demo``: the whole loop on slides it paints, ending with a project that QuPath opens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..detection.boxes import Boxes
from ..errors import ProtectedError
from ..evaluation.matching import Match, match_boxes
from ..evaluation.metrics import Score
from ..objects import Color, PathClass
from ..progress import SILENT, Reporter
from ..qupath import ImageServerInfo, NativeStore
from ..qupath.store import HierarchyEdit
from ..settings import (
    DetectSettings,
    EvaluateSettings,
    PatientSettings,
    Settings,
    TileSettings,
    TrainSettings,
)
from ..steps.detect import detect
from ..steps.detect_proposals import load_proposals
from ..steps.init import init
from ..steps.project import Project
from ..steps.round import RoundResult, walk_round
from ..sync.push import Proposals
from .pathologist import annotate
from .sheet import SheetItem, draw_contact_sheet
from .slides import paint_study
from .study import SlidePlan, StudyOptions, plan_study
from .truth import SlideTruth

PROJECT_FOLDER = "project"
SLIDE_FOLDER = "slides"
SHEET = "proposals.png"

GLOMERULUS = PathClass(("Glomerulus",), Color(46, 125, 50))
SCLEROTIC = PathClass(("Glomerulus", "Sclerotic"), Color(21, 101, 192))

MAX_SHEET_ITEMS = 48
_FOUND, _FALSE, _MISSED = (0, 140, 60), (200, 40, 30), (230, 150, 0)


@dataclass(frozen=True)
class HeldOutSlide:
    """A slide no training or threshold has seen, against the generator's truth."""

    name: str
    group: str
    score: Score


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and how good its detector is."""

    project_file: Path
    sheet: Path
    round: RoundResult
    slides: tuple[HeldOutSlide, ...]
    seconds: float

    @property
    def held_out(self) -> Score:
        """Summed over all held-out slides."""
        return Score(
            sum(s.score.truth for s in self.slides),
            sum(s.score.found for s in self.slides),
            sum(s.score.false for s in self.slides),
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "project": str(self.project_file),
            "contact_sheet": str(self.sheet),
            "seconds": round(self.seconds, 1),
            "round": self.round.as_dict(),
            "held_out": {
                "matching": "one to one, IoU of boxes >= 0.5, after stitching, generator's truth",
                "total": self.held_out.as_dict(),
                "slides": [
                    {"image": s.name, "group": s.group, **s.score.as_dict()} for s in self.slides
                ],
            },
        }


def demo_settings(seed: int) -> Settings:
    """Tiles and training that two CPU cores finish in about two minutes.

    6 µm per pixel shows a glomerulus as 20 to 45 pixels, which a small network learns from a few
    hundred tiles. One thread: two that wait for each other at every layer are faster on an idle
    machine and several times slower on a busy one, and their number changes the result.
    """
    return Settings(
        seed=seed,
        classes={"Glomerulus": [str(GLOMERULUS), str(SCLEROTIC)]},
        patients=PatientSettings(source="metadata", key="patient"),
        tiles=TileSettings(
            mpp=6.0, width_px=128, height_px=128, overlap="auto", background_ratio=0.7
        ),
        train=TrainSettings(
            model="glom-pico", epochs=20, batch=8, threads=1, validate_epochs=False
        ),
        detect=DetectSettings(batch=16),
        # What two minutes of training find, they find surely: the last objects would cost many
        # false ones, and the demo's table shows both.
        evaluate=EvaluateSettings(target="f1"),
    )


QUICK_STUDY = StudyOptions(
    n_annotated_patients=3,
    n_annotated_slides=4,
    n_unannotated_patients=1,
    n_unannotated_slides=1,
    cores_per_slide=(1, 1),
    tissue_length_um=(2200.0, 2400.0),
    core_length_um=(2000.0, 2500.0),
    core_width_um=(680.0, 780.0),
    margin_um=120.0,
    glomeruli_per_slide=(6, 7),
    medulla_share=(0.0, 0.0),
)
"""A study so small that the whole loop over it takes seconds; its detector is not good."""


def quick_settings(seed: int) -> Settings:
    """The demo's settings for :data:`QUICK_STUDY`, with just enough training to see something."""
    settings = demo_settings(seed)
    train = {"epochs": 40, "batch": 4, "learning_rate": 0.004}
    return settings.model_copy(
        update={
            "train": settings.train.model_copy(update=train),
            "evaluate": settings.evaluate.model_copy(update={"target": "recall"}),
        }
    )


def run_demo(
    folder: Path,
    *,
    seed: int = 0,
    quick: bool = False,
    options: StudyOptions | None = None,
    settings: Settings | None = None,
    reporter: Reporter = SILENT,
) -> DemoResult:
    """Paint slides, let a simulated pathologist mark most of them, and walk the loop once.

    Args:
        folder: made by the demo; must not exist or be empty.
        seed: the same seed gives the same slides, annotations, tiles and split.
        quick: five small slides, for trying the commands; the detector is not good.
        options: the study, by default 17 slides of 11 patients, or :data:`QUICK_STUDY`.
        settings: of the project, by default the demo's own.
        reporter: for progress.

    Raises:
        ProtectedError: the folder holds something already.
    """
    started = time.monotonic()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder} is there already and is not empty; give the demo another folder, or remove it"
        raise ProtectedError(msg)
    if settings is None:
        settings = quick_settings(seed) if quick else demo_settings(seed)
    plans = plan_study(seed, options or (QUICK_STUDY if quick else None))
    slides = folder / SLIDE_FOLDER
    with reporter.task("paint slides", len(plans)) as task:
        truths = paint_study(
            plans, slides, on_progress=lambda _done, _total, truth: task.advance(note=truth.name)
        )
    store = make_project(folder / PROJECT_FOLDER, slides, plans, truths, seed=seed)
    init(store.project_file, settings=settings)
    project = Project.open(store.project_file)
    result = walk_round(project, reporter=reporter)
    scores, items = _against_truth(project, slides, truths, result, reporter)
    sheet = folder / SHEET
    draw_contact_sheet(
        items[:MAX_SHEET_ITEMS],
        sheet,
        title="Proposals on held-out slides: green found, red false, orange missed; grey = truth",
    )
    return DemoResult(store.project_file, sheet, result, tuple(scores), time.monotonic() - started)


def make_project(
    folder: Path,
    slides: Path,
    plans: Sequence[SlidePlan],
    truths: Sequence[SlideTruth],
    *,
    seed: int,
) -> NativeStore:
    """A QuPath project of the slides, with the simulated pathologist's annotations."""
    store = NativeStore.create(folder)
    store.add_classes([GLOMERULUS, SCLEROTIC])
    for plan, truth in zip(plans, truths, strict=True):
        entry = store.add_image(
            slides / plan.name,
            name=plan.name,
            metadata=ImageServerInfo(
                width=truth.width_px, height=truth.height_px, mpp_x=truth.mpp, mpp_y=truth.mpp
            ),
            image_metadata={"patient": plan.patient, "stain": plan.stain.value},
        )
        if plan.annotated:
            contents = store.read(entry.id)
            store.write(
                entry.id,
                HierarchyEdit(add=tuple(annotate(truth, seed=seed))),
                expected=contents.stamp,
                snapshot_folder=folder / "glombridge" / "snapshots",
            )
    return store


def _against_truth(
    project: Project,
    slides: Path,
    truths: Sequence[SlideTruth],
    walked: RoundResult,
    reporter: Reporter,
) -> tuple[list[HeldOutSlide], list[SheetItem]]:
    """Score the slides of patients that neither trained nor chose the threshold."""
    parts = project.parts()
    groups = {
        t.name: "unannotated" if not t.annotated else "test patient"
        for t in truths
        if not t.annotated or parts.get(t.patient) == "test"
    }
    # The round leaves test patients out, as it must; here their slides are only looked at.
    test = [name for name, group in groups.items() if group == "test patient"]
    looked = detect(
        project,
        weights=walked.train.run.name,
        images=test,
        include_test=True,
        out=project.workspace.cache / "demo-test-slides",
        reporter=reporter,
    )
    names = {e.id: e.name for e in project.store.images()}
    found: dict[str, Proposals] = {}
    for source in (walked.detect.folder, looked.folder):
        for proposals in load_proposals(project, source)[0]:
            found[names[proposals.entry_id]] = proposals
    scores: list[HeldOutSlide] = []
    items: list[SheetItem] = []
    for truth in truths:
        if truth.name not in groups:
            continue
        p = found[truth.name]
        boxes = Boxes(p.xyxy, p.score, p.class_index)
        bounds = np.array([g.outline.bounds for g in truth.glomeruli], float).reshape(-1, 4)
        match = match_boxes(boxes, bounds)
        scores.append(HeldOutSlide(truth.name, groups[truth.name], Score.of([match])))
        items.extend(_thumbnails(slides, truth, boxes, match))
    # What went wrong first: that is what people want to see.
    return scores, sorted(items, key=lambda i: i.color == _FOUND)


def _thumbnails(slides: Path, truth: SlideTruth, boxes: Boxes, match: Match) -> list[SheetItem]:
    import shapely

    outlines = [g.outline for g in truth.glomeruli]
    items = []
    for k in range(len(boxes)):
        is_found = match.truth_of[k] >= 0
        items.append(
            SheetItem(
                slides / truth.name,
                shapely.box(*boxes.xyxy[k]),
                f"{'found' if is_found else 'FALSE'} {boxes.score[k]:.2f}\n{truth.name}",
                _FOUND if is_found else _FALSE,
                tuple(o for o in outlines if o.intersects(shapely.box(*boxes.xyxy[k]))),
            )
        )
    missed = set(range(len(outlines))) - set(match.truth_of.tolist())
    items.extend(
        SheetItem(slides / truth.name, outlines[k], f"MISSED\n{truth.name}", _MISSED)
        for k in sorted(missed)
    )
    return items
