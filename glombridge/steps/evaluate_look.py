"""What a model sees on the slides it is evaluated on; seen once, it is kept beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..detection.detector import Detector
from ..detection.pipeline import SlideDetections, detect_slide
from ..errors import DamagedFileError, InputError
from ..evaluation.slides import JudgedSlide, Truth
from ..ledger.manifest import environment, write_json
from ..progress import SILENT, Reporter
from ..slides.reader import Slide, fingerprint
from ..sync.pull import ImageAnnotations
from ..sync.roles import union_of
from .project import Project, spec_from

FOLDER = "evaluation"
"""In the run's folder: raw boxes of each evaluated slide, so that a later evaluation against newer
annotations, or beside another model, needs no network and no GPU again."""


@dataclass(frozen=True)
class HeldOut:
    """An image that did not teach the model.

    Attributes:
        was_complete: whether it was once searched with no proposal pending, so that proposals pushed
            since say nothing about what is there.
    """

    image: ImageAnnotations
    patient: str
    part: str
    was_complete: bool = False


def look(
    project: Project,
    weights: Path,
    manifest: Mapping[str, Any],
    held_out: Sequence[HeldOut],
    *,
    device: str | None = None,
    reporter: Reporter = SILENT,
) -> list[JudgedSlide]:
    """What the model of a run sees on held-out slides, with their truth.

    Raises:
        InputError: a slide that cannot be read, or is damaged where objects would then count as
            missed.
    """
    looker = _Looker(project, weights, manifest, device)
    slides = []
    with reporter.task("evaluate", len(held_out)) as task:
        for one in held_out:
            seen, mpp = looker.seen(one.image)
            if not seen.is_complete:
                x0, y0, x1, y1 = seen.unreadable[0]
                msg = (
                    f"slide {one.image.entry.name!r} is damaged at x={x0:.0f}, y={y0:.0f}, "
                    f"{x1 - x0:.0f} x {y1 - y0:.0f} px: objects there would count as missed. Copy "
                    "the file again from the scanner or archive."
                )
                raise InputError(msg)
            slides.append(_judged(project, one, seen, mpp))
            task.advance(note=one.image.entry.name)
    return slides


class _Looker:
    """A model that is loaded only when some slide has not been seen before."""

    def __init__(
        self, project: Project, weights: Path, manifest: Mapping[str, Any], device: str | None
    ) -> None:
        self.project = project
        self.weights = weights
        self.spec = spec_from(manifest)
        self.plan = {
            "weights_sha256": manifest["weights"]["sha256"],
            "tiles": manifest["tiles"],
            "environment": environment(),
        }
        run = weights.parent.parent
        self.folder = run / FOLDER if run.parent == project.workspace.runs else None
        self.device = device
        self._detector: Detector | None = None

    def seen(self, image: ImageAnnotations) -> tuple[SlideDetections, float | None]:
        with self.project.open_slide(image.entry) as slide:
            frame = slide.frame
            mpp = None if frame.mpp_x is None or frame.mpp_y is None else frame.mpp_x
            plan = {**self.plan, "slide": fingerprint(slide.path), "frame": repr(frame)}
            kept = self._kept(image.entry.id, plan)
            return kept or self._look(slide, image.entry.id, plan), mpp

    def _kept(self, image: int, plan: dict[str, Any]) -> SlideDetections | None:
        if self.folder is None:
            return None
        record, boxes = self._files(self.folder, image)
        try:
            if json.loads(record.read_text(encoding="utf-8")) == plan:
                return SlideDetections.load(boxes)
        except (OSError, ValueError, DamagedFileError):
            return None  # not there, or cut: it is only a copy
        return None

    def _look(self, slide: Slide, image: int, plan: dict[str, Any]) -> SlideDetections:
        detector = self._loaded()
        settings = self.project.settings.detect
        batch = settings.batch or detector.fitting_batch(self.spec.width_px, self.spec.height_px)
        seen = detect_slide(slide, self.spec, detector, batch=batch, workers=settings.workers)
        if self.folder is not None and seen.is_complete:
            self.folder.mkdir(exist_ok=True)
            record, boxes = self._files(self.folder, image)
            record.unlink(missing_ok=True)  # it speaks for the boxes, so it comes last
            seen.save(boxes)
            write_json(record, plan)
        return seen

    def _loaded(self) -> Detector:
        if self._detector is None:
            self._detector = Detector(
                self.weights,
                cache=self.project.workspace.cache,
                runs=self.project.workspace.runs,
                device=self.device,
                threads=self.project.settings.train.threads,
            )
            check_classes(self.project, self._detector)
        return self._detector

    @staticmethod
    def _files(folder: Path, image: int) -> tuple[Path, Path]:
        return folder / f"{image:04d}.json", folder / f"{image:04d}.parquet"


def check_classes(project: Project, detector: Detector) -> None:
    """Refuse weights whose classes are not the project's.

    Raises:
        InputError: they differ in name or order.
    """
    refuse_other_classes(project, list(detector.class_names))


def refuse_other_classes(project: Project, names: list[str]) -> None:
    """The same by name.

    Raises:
        InputError: they differ in name or order.
    """
    if names != project.settings.class_names:
        msg = (
            f"the weights detect {names}, but [classes] of the settings says "
            f"{project.settings.class_names}. Use other weights, or change the settings and train."
        )
        raise InputError(msg)


def _judged(
    project: Project, one: HeldOut, seen: SlideDetections, mpp: float | None
) -> JudgedSlide:
    entry, roles = one.image.entry, one.image.roles
    marked = [t for t in roles.truth if t.object.outline is not None]
    boxes = [t.object.outline.bounds for t in marked if t.object.outline is not None]
    return JudgedSlide(
        entry.id,
        entry.name,
        one.patient,
        one.part,
        Truth(
            np.array(boxes, np.float64).reshape(-1, 4),
            np.array([t.class_index for t in marked], np.int64),
            tuple(str(t.object.path_class) for t in marked),
            tuple(str(t.object.id) for t in marked),
        ),
        seen,
        known_area(one),
        entry.metadata.get(project.settings.evaluate.stain_key, ""),
        mpp,
        project.settings.detect.method,
    )


def known_area(one: HeldOut) -> BaseGeometry:
    """Where every object was marked, QuPath px.

    That is the searched area without ignored areas, and without pending proposals, unless everything
    had been marked before these came: a model must not hide its own false detections by proposing
    them.
    """
    image = one.image
    searched = image.searched if image.searched is not None else shapely.Polygon()
    others = [*image.roles.ignored, *(() if one.was_complete else image.roles.pending)]
    hidden = union_of(others)
    return searched if hidden is None else shapely.difference(searched, hidden)


def complete_images(project: Project) -> set[int]:
    """Entry ids of images that some pull found searched, with no proposal pending."""
    complete: set[int] = set()
    workspace = project.workspace
    for pull in workspace.finished_runs(workspace.pulls, "pull"):
        try:
            images = json.loads((pull / "manifest.json").read_text(encoding="utf-8"))["images"]
        except (ValueError, KeyError) as error:
            msg = (
                f"{pull / 'manifest.json'} is not the manifest of a pull: {error!r}. Remove {pull}."
            )
            raise DamagedFileError(msg) from error
        complete |= {
            int(i["id"]) for i in images if i["searched"] != "nowhere" and not i["pending"]
        }
    return complete
