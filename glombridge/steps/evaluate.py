"""``evaluate``: how good are the weights, per slide, after stitching; and at which confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ..detection.boxes import Boxes, Floats
from ..detection.detector import Detector
from ..detection.pipeline import SlideDetections, detect_slide
from ..errors import InputError
from ..evaluation.matching import Match, match_boxes
from ..evaluation.metrics import OperatingPoint, Score, choose_operating_point
from ..ledger.history import utc_now
from ..ledger.manifest import environment, sha256_of, write_json
from ..progress import SILENT, Reporter
from ..sync.pull import ImageAnnotations, read_annotations
from .project import Project, spec_from
from .weights import manifest_of

THRESHOLDS = tuple(round(0.02 * k, 2) for k in range(1, 49))
"""Confidences that are tried on the validation slides; the slides are stitched anew at each."""


@dataclass(frozen=True)
class SlideResult:
    """One slide at the operating point."""

    name: str
    patient: str
    part: str
    score: Score

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "image": self.name,
            "patient": self.patient,
            "part": self.part,
            **self.score.as_dict(),
        }


@dataclass(frozen=True)
class EvaluateResult:
    """How good the weights are.

    Attributes:
        run: the training run, or the weights file's name.
        point: the confidence chosen on validation slides.
        slides: per slide, at that confidence.
        curve: over the thresholds: validation and test scores.
    """

    run: str
    point: OperatingPoint
    slides: tuple[SlideResult, ...]
    curve: tuple[tuple[float, Score, Score], ...]
    min_iou: float

    def total(self, part: str) -> Score:
        """Summed over the slides of one part."""
        scores = [s.score for s in self.slides if s.part == part]
        return Score(
            sum(s.truth for s in scores), sum(s.found for s in scores), sum(s.false for s in scores)
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "matching": f"one to one, IoU of boxes >= {self.min_iou}, after stitching",
            "operating_point": {
                "confidence": self.point.confidence,
                "target": self.point.target,
                "reached": self.point.reached,
                "chosen_on": "validation slides",
                "validation": self.point.validation.as_dict(),
            },
            "test": self.total("test").as_dict(),
            "slides": [s.as_dict() for s in self.slides],
            "curve": [
                {"confidence": t, "validation": v.as_dict(), "test": s.as_dict()}
                for t, v, s in self.curve
            ],
        }


@dataclass(frozen=True)
class _Looked:
    image: ImageAnnotations
    patient: str
    part: str
    detections: SlideDetections


def evaluate(
    project: Project,
    *,
    weights: str | None = None,
    device: str | None = None,
    reporter: Reporter = SILENT,
) -> EvaluateResult:
    """Detect on validation and test slides, choose the threshold on validation, report on test.

    Writes ``operating_point.json`` and ``evaluation.json`` beside the weights of a run of this
    project.

    Raises:
        InputError: no weights, no validation slide with objects, or a slide that cannot be read.
    """
    file, manifest = load_run(project, weights)
    spec = spec_from(manifest)
    parts = project.parts()
    detector = Detector(
        file, cache=project.workspace.cache, device=device, threads=project.settings.train.threads
    )
    check_classes(project, detector)
    batch = project.settings.detect.batch or detector.fitting_batch(spec.width_px, spec.height_px)
    workers = project.settings.detect.workers
    images = [
        (image, patient, parts[patient])
        for image in read_annotations(project.store, project.settings, reporter=reporter)
        if image.searched is not None
        and (patient := project.patient(image.entry)) in parts
        and parts[patient] in ("val", "test")
    ]
    looked = []
    with reporter.task("evaluate", len(images)) as task:
        for image, patient, part in images:
            with project.open_slide(image.entry) as slide:
                detections = detect_slide(
                    slide, spec, detector, batch=batch, workers=workers, task=task
                )
            if not detections.is_complete:
                x0, y0, x1, y1 = detections.unreadable[0]
                msg = (
                    f"slide {image.entry.name!r} is damaged at x={x0:.0f}, y={y0:.0f}, "
                    f"{x1 - x0:.0f} x {y1 - y0:.0f} px: objects there would count as missed. Copy "
                    "the file again from the scanner or archive."
                )
                raise InputError(msg)
            looked.append(_Looked(image, patient, part, detections))
    validation = [x for x in looked if x.part == "val"]
    if not any(x.image.roles.truth for x in validation):
        msg = (
            "the validation slides hold no objects, so no threshold can be chosen. Annotate slides "
            "of a validation patient (glombridge status names them), or of more patients."
        )
        raise InputError(msg)
    min_iou = project.settings.evaluate.iou
    curve = [
        (
            t,
            Score.of(_match(x, t, min_iou) for x in validation),
            Score.of(_match(x, t, min_iou) for x in looked if x.part == "test"),
        )
        for t in THRESHOLDS
    ]
    point = choose_operating_point(
        [(t, v) for t, v, _ in curve],
        target=project.settings.evaluate.target,
        target_recall=project.settings.evaluate.target_recall,
    )
    slides = tuple(
        SlideResult(
            x.image.entry.name, x.patient, x.part, Score.of([_match(x, point.confidence, min_iou)])
        )
        for x in looked
    )
    run = file.parent.parent
    is_own = run.parent == project.workspace.runs
    result = EvaluateResult(run.name if is_own else file.name, point, slides, tuple(curve), min_iou)
    if is_own:
        document = {**result.as_dict(), "finished": utc_now(), "environment": environment()}
        write_json(run / "evaluation.json", document)
        write_json(run / "operating_point.json", document["operating_point"])
    project.workspace.record(
        "evaluate",
        run=result.run,
        weights_sha256=sha256_of(file),
        confidence=point.confidence,
        test=result.total("test").as_dict(),
    )
    return result


def load_run(project: Project, weights: str | None) -> tuple[Path, dict[str, Any]]:
    """A weights file and the manifest of the run that made it.

    Raises:
        InputError: no such weights; weights without a manifest, whose tiles nobody knows; or a
            file that is not the one the manifest names.
    """
    file = project.workspace.weights_of(weights)
    return file, manifest_of(file)


def check_classes(project: Project, detector: Detector) -> None:
    """Refuse weights whose classes are not the project's.

    Raises:
        InputError: they differ in name or order.
    """
    if list(detector.class_names) != project.settings.class_names:
        msg = (
            f"the weights detect {list(detector.class_names)}, but [classes] of the settings says "
            f"{project.settings.class_names}. Use other weights, or change the settings and train."
        )
        raise InputError(msg)


def truth_boxes(image: ImageAnnotations) -> Floats:
    """(N, 4) boxes of an image's truth objects, QuPath pixels."""
    boxes = [t.object.outline.bounds for t in image.roles.truth if t.object.outline is not None]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _match(looked: _Looked, confidence: float, min_iou: float) -> Match:
    found = looked.detections.stitched(confidence)
    return match_boxes(
        found, truth_boxes(looked.image), min_iou=min_iou, ignored=_unknown(found, looked.image)
    )


def _unknown(found: Boxes, image: ImageAnnotations) -> np.ndarray:
    """Detections that lie where truth is not known: outside the searched area, or ignored."""
    if not len(found):
        return np.zeros(0, np.bool_)
    center = shapely.points((found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2)
    unknown = ~shapely.intersects(image.searched, center)
    others: Sequence[Any] = [*image.roles.ignored, *image.roles.pending]
    areas = [o.outline.geometry for o in others if o.outline is not None and o.outline.is_area]
    if areas:
        unknown |= shapely.intersects(shapely.union_all(shapely.make_valid(areas)), center)
    return np.asarray(unknown, np.bool_)
