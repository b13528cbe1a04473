"""What a model sees on the slides it is evaluated on; seen once, it is kept beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..detection.detector import Detector
from ..detection.pipeline import SlideDetections, plan_slide, run_plan
from ..documents import expecting, parse_json
from ..errors import DamagedFileError, DeviceError, InputError, PartlyDoneError
from ..evaluation.slides import JudgedSlide, Truth
from ..frames import Frame
from ..ledger.manifest import environment, write_json
from ..progress import SILENT, Reporter
from ..scale import Cluster, OneMachine, Outcome, Piece, Tell
from ..slides.reader import Slide, fingerprint
from ..sync.pull import ImageAnnotations
from ..sync.roles import union_of
from ..tiles.grid import TileSpec
from ..tiles.labels import is_only_a_box
from ..training.trust import require_trust
from .held_model import HeldModel, ask, decoders_beside, held, model_on, model_versions
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
    cluster: Cluster | None = None,
    reporter: Reporter = SILENT,
) -> list[JudgedSlide]:
    """What the model of a run sees on held-out slides, with their truth.

    Args:
        project: the project.
        weights: a weights file, and
        manifest: that of its run.
        held_out: the slides.
        device: as torch names it.
        cluster: whose workers look at slides not seen before; this machine where there is none.
        reporter: for progress.

    Raises:
        InputError: a slide that cannot be read, or is damaged where objects would then count as
            missed.
        PartlyDoneError: the same on a cluster, when all others have been looked at and kept.
        DeviceError: a GPU was lost; what was seen until then is kept.
    """
    folder = _folder_beside(weights, project)
    same = {
        "weights_sha256": manifest["weights"]["sha256"],
        "tiles": manifest["tiles"],
        "environment": environment(),
    }
    judged: dict[int, JudgedSlide] = {}
    unseen: list[tuple[HeldOut, Sight, dict[str, Any]]] = []
    failed: list[str] = []

    with reporter.task("evaluate", len(held_out)) as task:

        def take(one: HeldOut, sight: Sight, seen: SlideDetections) -> None:
            if not seen.is_complete:
                raise _damaged(one, seen)
            judged[sight.id] = _judged(project, one, seen, sight.mpp)
            task.advance(note=sight.name)

        for one in held_out:
            sight, plan = _sight(project, one.image, same)
            seen = None if folder is None else _kept(folder, sight.id, plan)
            if seen is None:
                unseen.append((one, sight, plan))
            else:
                take(one, sight, seen)

        def on_outcome(outcome: Outcome[int, SlideDetections]) -> None:
            one, sight, plan = unseen[outcome.piece.value]
            try:
                if outcome.error is not None:
                    raise outcome.error
                if outcome.result is not None:
                    if folder is not None:
                        _keep(folder, sight.id, plan, outcome.result)
                    take(one, sight, outcome.result)
            except InputError as error:
                if cluster is None:
                    raise
                failed.append(f"  image {sight.name!r}: {error}")

        if unseen:
            sights = [sight for _, sight, _ in unseen]
            try:
                _look_at_all(project, weights, manifest, device, sights, cluster, on_outcome)
            except DeviceError as error:
                raise _with_what_is_kept(error, len(judged), len(held_out), folder) from error
    if failed:
        text = "\n".join(failed)
        msg = (
            f"{len(failed)} of {len(held_out)} slides could not be looked at, so nothing is evaluated. "
            f"What was seen of the others is kept and need not be looked at again.\n{text}"
        )
        raise PartlyDoneError(msg)
    return [judged[one.image.entry.id] for one in held_out]


def _with_what_is_kept(error: DeviceError, n: int, of: int, folder: Path | None) -> DeviceError:
    kept = f"What was seen of {n} of {of} slides is kept; t" if folder is not None else "T"
    return DeviceError(f"{error} {kept}he same 'glombridge evaluate' goes on.")


def _look_at_all(
    project: Project,
    weights: Path,
    manifest: Mapping[str, Any],
    device: str | None,
    sights: Sequence[Sight],
    cluster: Cluster | None,
    on_outcome: Callable[[Outcome[int, SlideDetections]], None],
) -> None:
    """Look at slides here or on a cluster; outcomes carry the slide's place in ``sights``."""
    settings = project.settings
    spec, sha256 = spec_from(manifest), manifest["weights"]["sha256"]
    size = spec.width_px, spec.height_px
    workers, threads = settings.detect.workers, settings.train.threads
    if cluster is None:
        detector = Detector(
            weights,
            cache=project.workspace.cache,
            runs=project.workspace.runs,
            device=device,
            threads=threads,
        )
        check_classes(project, detector)
        batch = settings.detect.batch or detector.fitting_batch(*size)

        def look_here(k: int, _: Tell) -> SlideDetections:
            return look_at_slide(sights[k], spec, detector, batch=batch, workers=workers)

        pieces = (Piece(sight.name, k) for k, sight in enumerate(sights))
        OneMachine().each(look_here, pieces, on_outcome)
        return
    require_trust(weights, project.workspace.runs)  # the workers take this machine's word for it
    weights = weights.absolute()
    model = model_on(cluster, weights, sha256, device, threads)
    facts = ask(cluster, model, spec)
    refuse_other_classes(project, list(facts.class_names))
    model, batch = model.of_kind(facts.kind), settings.detect.batch or facts.batch

    def on_slide(outcome: Outcome[LookOrder, SlideDetections]) -> None:
        place = Piece(outcome.piece.name, outcome.piece.value.place)
        on_outcome(Outcome(place, outcome.result, outcome.error, outcome.worker))

    cluster.each(
        look_on_worker,
        (
            Piece(s.name, LookOrder(k, s, model, spec, batch, workers), (s.path, weights))
            for k, s in enumerate(sights)
        ),
        on_slide,
        facts=model_versions,
        with_model=True,
    )


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
class LookOrder:
    """One slide to look at on a worker.

    Attributes:
        place: of the slide among all.
        workers: threads that decode; ``None`` = as many as go with the device.
    """

    place: int
    sight: Sight
    model: HeldModel
    spec: TileSpec
    batch: int
    workers: int | None


def look_on_worker(order: LookOrder, tell: Tell) -> SlideDetections:
    """What the model sees on one slide; runs on a worker, and writes nothing.

    Raises:
        InputError: the slide cannot be read.
        MachineError: out of memory.
    """
    detector = held(order.model)
    workers = order.workers or decoders_beside(detector)
    return look_at_slide(
        order.sight, order.spec, detector, batch=order.batch, workers=workers, tell=tell
    )


def look_at_slide(
    sight: Sight,
    spec: TileSpec,
    detector: Detector,
    *,
    batch: int,
    workers: int | None,
    tell: Tell | None = None,
) -> SlideDetections:
    """What a model sees on one slide; it writes nothing.

    Args:
        sight: the slide.
        spec: tiles as the model was trained on.
        detector: the model.
        batch: tiles shown at once.
        workers: threads that decode.
        tell: told how many tiles were shown.

    Raises:
        InputError: the slide cannot be read.
    """
    done = 0
    with Slide(sight.path, sight.frame) as slide:
        plan = plan_slide(slide, spec, batch=batch, workers=workers)

    def on_tiles(n: int, _: int) -> None:
        nonlocal done
        done += n
        if tell is not None:
            tell(done, len(plan.shown))

    return run_plan(plan, detector, on_tiles=on_tiles)


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
        if parse_json(record.read_text(encoding="utf-8")) == plan:
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
    outlines = np.full(len(marked), None, object)
    for k, t in enumerate(marked):
        if t.object.outline is not None and not is_only_a_box(t.object):
            outlines[k] = t.object.outline.geometry
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
            outlines,
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
        file = pull / "manifest.json"
        with expecting(file, "the manifest of a pull", f"Remove {pull}."):
            images = parse_json(file.read_text(encoding="utf-8"))["images"]
            complete |= {
                int(i["id"]) for i in images if i["searched"] != "nowhere" and not i["pending"]
            }
    return complete
