"""What a model sees on the slides it is evaluated on; seen once, it is kept beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..detection.detector import Detector
from ..detection.pipeline import SlideDetections, detect_slide
from ..errors import DamagedFileError, InputError
from ..evaluation.slides import JudgedSlide, Truth
from ..frames import Frame
from ..ledger.manifest import environment, write_json
from ..progress import SILENT, Reporter
from ..slides.reader import Slide, fingerprint
from ..sync.pull import ImageAnnotations
from ..sync.roles import union_of
from ..tiles.grid import TileSpec
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
    folder = _folder_beside(weights, project)
    model = LookingModel.of(project, weights, manifest, device)
    same = {
        "weights_sha256": manifest["weights"]["sha256"],
        "tiles": manifest["tiles"],
        "environment": environment(),
    }
    detector: Detector | None = None  # loaded only when some slide has not been seen before
    slides = []
    with reporter.task("evaluate", len(held_out)) as task:
        for one in held_out:
            sight, plan = _sight(project, one.image, same)
            seen = None if folder is None else _kept(folder, sight.id, plan)
            if seen is None:
                if detector is None:
                    detector = model.load(project.workspace.cache)
                    check_classes(project, detector)
                    model = model.with_batch(detector)
                seen = look_at_slide(sight, model, detector)
                if folder is not None:
                    _keep(folder, sight.id, plan, seen)
            if not seen.is_complete:
                raise _damaged(one, seen)
            slides.append(_judged(project, one, seen, sight.mpp))
            task.advance(note=one.image.entry.name)
    return slides


@dataclass(frozen=True)
class Sight:
    """One slide to look at. It can be sent to another process, or another machine.

    Attributes:
        id: entry id in the project.
        path: the slide file.
        frame: of the image.
    """

    id: int
    name: str
    path: Path
    frame: Frame

    @property
    def mpp(self) -> float | None:
        """µm per QuPath px, if it is known."""
        return None if self.frame.mpp_y is None else self.frame.mpp_x


@dataclass(frozen=True)
class LookingModel:
    """How a model looks; the same for all slides. It can be sent to another process.

    Attributes:
        spec: tiles as it was trained on.
        batch: tiles shown at once; ``None`` until :meth:`with_batch`.
        workers: threads that decode.
        threads: of torch on a CPU.
    """

    weights: Path
    spec: TileSpec
    batch: int | None
    workers: int | None
    threads: int | None
    device: str | None

    @classmethod
    def of(
        cls, project: Project, weights: Path, manifest: Mapping[str, Any], device: str | None
    ) -> LookingModel:
        """As the settings and the run's manifest say."""
        settings = project.settings
        return cls(
            weights,
            spec_from(manifest),
            settings.detect.batch,
            settings.detect.workers,
            settings.train.threads,
            device,
        )

    def with_batch(self, detector: Detector) -> LookingModel:
        """The same, with as many tiles at once as fit where nobody has said it; for all slides."""
        size = self.spec.width_px, self.spec.height_px
        return replace(self, batch=self.batch or detector.fitting_batch(*size))

    def load(self, cache: Path) -> Detector:
        """The model, ready to look.

        Raises:
            InputError, ProtectedError: as :class:`.Detector`.
        """
        return Detector(self.weights, cache=cache, device=self.device, threads=self.threads)


def look_at_slide(sight: Sight, model: LookingModel, detector: Detector) -> SlideDetections:
    """What the model sees on one slide; it writes nothing.

    Raises:
        InputError: the slide cannot be read.
    """
    batch = model.with_batch(detector).batch or 1
    with Slide(sight.path, sight.frame) as slide:
        return detect_slide(slide, model.spec, detector, batch=batch, workers=model.workers)


def _sight(
    project: Project, image: ImageAnnotations, same: Mapping[str, Any]
) -> tuple[Sight, dict[str, Any]]:
    """The slide of an image, and all that decides what a model sees on it."""
    with project.open_slide(image.entry) as slide:
        sight = Sight(image.entry.id, image.entry.name, slide.path, slide.frame)
    plan = {**same, "slide": fingerprint(sight.path), "frame": repr(sight.frame)}
    return sight, plan


def _folder_beside(weights: Path, project: Project) -> Path | None:
    run = weights.parent.parent
    return run / FOLDER if run.parent == project.workspace.runs else None


def _kept(folder: Path, image: int, plan: dict[str, Any]) -> SlideDetections | None:
    record, boxes = _files(folder, image)
    try:
        if json.loads(record.read_text(encoding="utf-8")) == plan:
            return SlideDetections.load(boxes)
    except (OSError, ValueError, DamagedFileError):
        return None  # not there, or cut: it is only a copy
    return None


def _keep(folder: Path, image: int, plan: dict[str, Any], seen: SlideDetections) -> None:
    if not seen.is_complete:
        return
    folder.mkdir(exist_ok=True)
    record, boxes = _files(folder, image)
    record.unlink(missing_ok=True)  # it speaks for the boxes, so it comes last
    seen.save(boxes)
    write_json(record, plan)


def _files(folder: Path, image: int) -> tuple[Path, Path]:
    return folder / f"{image:04d}.json", folder / f"{image:04d}.parquet"


def _damaged(one: HeldOut, seen: SlideDetections) -> InputError:
    x0, y0, x1, y1 = seen.unreadable[0]
    msg = (
        f"slide {one.image.entry.name!r} is damaged at x={x0:.0f}, y={y0:.0f}, "
        f"{x1 - x0:.0f} x {y1 - y0:.0f} px: objects there would count as missed. Copy "
        "the file again from the scanner or archive."
    )
    return InputError(msg)


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
