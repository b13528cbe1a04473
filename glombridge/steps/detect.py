"""``detect``: weights on the slides of a project, or on slide files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from ..detection.pipeline import SlideDetections, default_workers
from ..detection.stitch import DEFAULT_METHOD, METHODS, stitch
from ..documents import expecting, parse_json
from ..errors import (
    DamagedFileError,
    GlombridgeError,
    InputError,
    PartlyDoneError,
    UsageError,
)
from ..evaluation.calibration import Calibration
from ..filenames import is_plain_name, require_inside
from ..ledger.history import utc_now
from ..ledger.manifest import environment
from ..progress import SILENT, Reporter
from ..sync.push import Proposals, newest_detections
from .detect_place import open_place
from .detect_progress import DetectProgress
from .detect_run import DetectedImage, DetectionRun, publish_complete
from .detect_targets import Choice, Target, targets_of_files, targets_of_project
from .detect_work import Emit, Job, about
from .evaluate import load_run
from .evaluate_look import refuse_other_classes
from .operating_point import StoredPoint, stored_point
from .project import Project, spec_from
from .weights import manifest_of

FALLBACK_CONFIDENCE = 0.25
"""Used, and said so, when nobody has chosen a threshold on validation slides."""


@dataclass(frozen=True)
class DetectOptions:
    """How to detect; what is ``None`` comes from the settings or from the weights.

    Attributes:
        min_confidence: instead of the operating point stored with the weights.
        device: as torch names it; several with commas, one process each.
        workers: threads that decode, per device.
        batch: tiles shown at once.
        method: of stitching.
        flips: look at each tile mirrored too, to say how sure the model is.
    """

    min_confidence: float | None = None
    device: str | None = None
    workers: int | None = None
    batch: int | None = None
    method: str | None = None
    flips: bool = False


@dataclass(frozen=True)
class DetectResult:
    """A finished detection run.

    Attributes:
        folder: GeoJSON and raw boxes per image, and ``manifest.json``.
        confidence: the threshold that was used, and where it came from.
        continued: images that an interrupted run had finished before.
        profile: where the time went, one per device.
        notes: what a reader of the results should know, one sentence each.
    """

    folder: Path
    run: str
    confidence: float
    confidence_from: str
    images: tuple[DetectedImage, ...]
    failed: tuple[tuple[str, str], ...] = ()
    continued: int = 0
    profile: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def found(self) -> int:
        """Objects over all images."""
        return sum(i.found for i in self.images)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "folder": str(self.folder),
            "confidence": self.confidence,
            "confidence_from": self.confidence_from,
            "found": self.found,
            "images": [i.as_dict() for i in self.images],
            "failed": [{"image": n, "reason": why} for n, why in self.failed],
            "continued": self.continued,
            "profile": list(self.profile),
            "notes": list(self.notes),
        }


def detect(
    project: Project,
    *,
    weights: str | None = None,
    images: Sequence[str] = (),
    out: Path | None = None,
    min_confidence: float | None = None,
    include_test: bool = False,
    device: str | None = None,
    choice: Choice | None = None,
    options: DetectOptions | None = None,
    cluster: str | None = None,
    reporter: Reporter = SILENT,
    on_event: Emit | None = None,
) -> DetectResult:
    """Detect on the images of a project; those of test patients are left out unless asked for.

    An interrupted run of the same plan is continued with the slides that are missing.

    Args:
        project: the project.
        weights: run id or file; the newest run by default.
        images: names of the images wanted, all by default; ``choice`` can say more.
        out: folder to make instead of the next one under ``glombridge/detections``.
        min_confidence: as in ``options``.
        include_test: as in ``choice``.
        device: as in ``options``.
        choice: which images, and where on them.
        options: how to detect.
        cluster: a Dask cluster that does the work on slides, as :func:`.open_cluster` names it.
        reporter: shown how far it is.
        on_event: told what happens, for a scheduler.

    Raises:
        InputError: no weights, an image that is not in the project, or no image left.
        PartlyDoneError: some slides failed or could only be read in part; each is named, the others
            are complete.
        MissingComponentError: a cluster is asked for and Dask is missing, its workers have other
            versions, or none has the GPU that is asked for.
    """
    choice = choice or Choice(names=images, include_test=include_test)
    options = options or DetectOptions(min_confidence=min_confidence, device=device)
    file, manifest = load_run(project, weights)
    targets = targets_of_project(project, choice)
    publish_complete(project.workspace.detections)
    return _run(
        targets,
        file,
        manifest,
        project,
        options,
        cache=project.workspace.cache,
        out=out,
        cluster=cluster,
        reporter=reporter,
        on_event=on_event,
    )


def detect_files(
    files: Sequence[Path],
    *,
    weights: Path,
    out: Path,
    mpp: float | None = None,
    regions: Sequence[tuple[float, float, float, float]] = (),
    options: DetectOptions | None = None,
    cluster: str | None = None,
    reporter: Reporter = SILENT,
    on_event: Emit | None = None,
) -> DetectResult:
    """Detect on slide files, without a project.

    Args:
        files: slides that OpenSlide can read.
        weights: a weights file in the run folder that made it.
        out: folder to make.
        mpp: µm per px of slides that do not say it themselves.
        regions: (x, y, width, height) in QuPath px: only there.
        options: how to detect.
        cluster: a Dask cluster that does the work on slides, as :func:`.open_cluster` names it.
        reporter: shown how far it is.
        on_event: told what happens, for a scheduler.

    Raises:
        InputError: no weights, or no slide can be read.
        PartlyDoneError: as in :func:`detect`.
    """
    targets = targets_of_files(files, mpp=mpp, regions=regions)
    manifest = manifest_of(weights)
    # ultralytics wants a folder for its settings; without a project it gets one of its own.
    with tempfile.TemporaryDirectory(prefix="glombridge-") as cache:
        return _run(
            targets,
            weights,
            manifest,
            None,
            options or DetectOptions(),
            cache=Path(cache),
            out=out,
            cluster=cluster,
            reporter=reporter,
            on_event=on_event,
        )


def _run(
    targets: list[Target],
    weights: Path,
    manifest: dict[str, Any],
    project: Project | None,
    options: DetectOptions,
    *,
    cache: Path,
    out: Path | None,
    cluster: str | None,
    reporter: Reporter,
    on_event: Emit | None,
) -> DetectResult:
    settings = project.settings if project is not None else None
    method = options.method or (settings.detect.method if settings else DEFAULT_METHOD)
    if method not in METHODS:
        msg = f"no stitching method {method!r}; there are {', '.join(METHODS)}"
        raise UsageError(msg)
    point = stored_point(weights)
    calibration = None if point is None else point.calibration
    confidence, source = _threshold(project, point, options.min_confidence)
    spec = spec_from(manifest)
    workspace = project.workspace if project is not None else None
    threads = settings.train.threads if settings else None
    workers = options.workers or (settings.detect.workers if settings else None)
    asked = options.batch or (settings.detect.batch if settings else None)
    notes = _notes(project, manifest)
    with open_place(
        weights,
        manifest["weights"]["sha256"],
        spec,
        cache=cache,
        runs=workspace.runs if workspace is not None else None,
        device=options.device,
        threads=threads,
        workers=workers,
        cluster=cluster,
        reporter=reporter,
    ) as place:
        if project is not None:
            refuse_other_classes(project, list(place.class_names))
        plan = {
            "weights_sha256": manifest["weights"]["sha256"],
            "task": place.task,
            "classes": list(place.class_names),
            "tiles": manifest["tiles"],
            "confidence": confidence,
            "confidence_from": source,
            # Written onto objects: pushing the run later must say the same, whatever is evaluated by then.
            "calibration": calibration and calibration.as_dict(),
            "method": method,
            "flips": options.flips,
            "batch": asked,
            "device": place.device.split(":")[0],
            "half": place.is_half,
            "threads": place.threads,
            "images": [t.as_plan() for t in targets],
            "mpp": settings.project.mpp if settings else None,
            "environment": environment(),
        }
        batch = asked or place.fitting_batch()
        with DetectionRun.begin(workspace, out, plan, batch) as run:
            job = Job(
                run.partial.absolute(),
                weights,
                cache,
                spec,
                confidence,
                method,
                run.batch,
                workers or default_workers(),
                threads,
                options.flips,
                calibration,
                workspace.runs if workspace is not None else None,
            )
            done, todo, missing = _sorted_out(targets, project, run)
            continued = len(done)
            with reporter.task("detect", len(targets)) as task:
                progress = DetectProgress(targets, done, task, on_event or (lambda _: None))
                for target, why in missing:
                    progress({"event": "failed", **about(target), "reason": why})
                place.detect(todo, job, progress)
            images = tuple(progress.images[t.id] for t in targets if t.id in progress.images)
            if not images:
                run.abandon()
                raise InputError("\n".join(why for _, why in progress.failed))
            run.publish(_manifest(manifest, plan, run, project, images, progress.failed, notes))
    result = DetectResult(
        run.folder,
        run.folder.name,
        confidence,
        source,
        images,
        tuple(progress.failed),
        continued,
        tuple(progress.profile),
        tuple(notes),
    )
    if workspace is not None:
        workspace.record(
            "detect",
            run=result.run,
            weights_sha256=manifest["weights"]["sha256"],
            confidence=confidence,
            images=[i.entry_id for i in images],
            found=result.found,
        )
    _raise_if_partly_done(result, len(targets))
    return result


def _manifest(
    weights: dict[str, Any],
    plan: dict[str, Any],
    run: DetectionRun,
    project: Project | None,
    images: Sequence[DetectedImage],
    failed: Sequence[tuple[str, str]],
    notes: list[str],
) -> dict[str, Any]:
    is_complete = not failed and all(i.state == "complete" for i in images)
    return {
        "kind": "detect",
        "project": project is not None,
        "run": run.folder.name,
        "finished": utc_now(),
        "state": "complete" if is_complete else "partial",
        "weights": {"run": weights["run"], "sha256": weights["weights"]["sha256"]},
        "confidence": plan["confidence"],
        "confidence_from": plan["confidence_from"],
        "method": plan["method"],
        "task": plan["task"],
        "classes": plan["classes"],
        "tiles": plan["tiles"],
        "batch": run.batch,
        "images": [i.as_dict() for i in images],
        "failed": [{"image": n, "reason": why} for n, why in failed],
        "notes": notes,
        "plan": plan,
        "environment": environment(),
    }


def _sorted_out(
    targets: Sequence[Target], project: Project | None, run: DetectionRun
) -> tuple[list[DetectedImage], list[Target], list[tuple[Target, str]]]:
    """What an interrupted run has finished, what is to be done, and slides that are not there."""
    done, todo, missing = [], [], []
    for target in targets:
        try:
            located = target.located(project)
        except GlombridgeError as error:
            missing.append((target, str(error)))
            continue
        image = run.done(target.file, located.path)
        if image is None:
            todo.append(located)
        else:
            done.append(image)
    return done, todo, missing


def _notes(project: Project | None, manifest: dict[str, Any]) -> list[str]:
    """Where the weights are not what the settings ask for."""
    if project is None:
        return []
    return [*_task_note(project, manifest), *_tile_note(project, manifest)]


def _task_note(project: Project, manifest: dict[str, Any]) -> list[str]:
    finds = {"detect": "boxes", "segment": "outlines"}
    # Manifests of before there were outlines do not say it.
    learnt, asked = manifest.get("task", "detect"), project.settings.tiles.task
    if learnt == asked:
        return []
    note = (
        f"the settings ask for {finds[asked]}, but the weights were trained on {finds[learnt]}, and those "
        "are what is found; tile and train again to change it"
    )
    return [note]


def _tile_note(project: Project, manifest: dict[str, Any]) -> list[str]:
    trained, asked = spec_from(manifest), project.tile_spec()
    one = (trained.mpp, trained.width_px, trained.height_px)
    if one == (asked.mpp, asked.width_px, asked.height_px):
        return []

    def words(mpp: float | None, width: int, height: int) -> str:
        return f"{width} x {height} px at {f'{mpp:g} µm' if mpp else 'the slide’s own'} per px"

    note = (
        f"the settings ask for tiles of {words(asked.mpp, asked.width_px, asked.height_px)}, but the "
        f"weights were trained on {words(*one)}, and that is what they are shown; tile and train "
        "again to change it"
    )
    return [note]


def _raise_if_partly_done(result: DetectResult, n_targets: int) -> None:
    lines = [f"  image {n!r}: {why}" for n, why in result.failed]
    for image in result.images:
        for x0, y0, x1, y1 in image.unreadable:
            lines.append(
                f"  image {image.name!r} is partial: its file is damaged at x={x0:.0f}, y={y0:.0f}, "
                f"{x1 - x0:.0f} x {y1 - y0:.0f} px; nothing was looked for there"
            )
    if lines:
        n = len(result.failed) + sum(i.state == "partial" for i in result.images)
        text = "\n".join(lines)
        msg = f"{n} of {n_targets} slides failed or are partial; the others are in {result.folder}:\n{text}"
        raise PartlyDoneError(msg)


def load_proposals(
    project: Project, folder: Path | None = None, *, min_confidence: float | None = None
) -> tuple[list[Proposals], str, str]:
    """What a detection run proposes, stitched at its threshold or another one.

    Returns:
        Proposals per image, the run's id, and the short hash of its weights.

    Raises:
        InputError: the folder is not a finished detection run, or its classes are not the project's.
        ProtectedError: its manifest is a link that leads out of it.
    """
    folder = folder or newest_detections(project.workspace)
    path = folder / "manifest.json"
    if not path.is_file():
        msg = f"{folder} is not a finished detection run: it has no manifest.json"
        raise InputError(msg)
    require_inside(path, folder)
    with expecting(path, "the manifest of a detection run", "Run 'glombridge detect' again."):
        manifest = parse_json(path.read_text(encoding="utf-8"))
        if manifest["kind"] != "detect":
            msg = f"{folder} is a run of kind {manifest['kind']!r}, not of detections"
            raise InputError(msg)
        if manifest["classes"] != project.settings.class_names:
            msg = (
                f"{folder} detects {manifest['classes']}, but [classes] of the settings says "
                f"{project.settings.class_names}"
            )
            raise InputError(msg)
        if manifest.get("deidentified"):
            msg = (
                f"{folder} holds codes instead of the project's images, so that nobody can push it. "
                f"Push the run it is a copy of: glombridge/detections/{manifest['run']}."
            )
            raise InputError(msg)
        if not manifest["project"]:
            msg = (
                f"{folder} was made from slide files, not from the images of a project, so nobody "
                "knows which image is which. Run 'glombridge detect PROJECT' instead."
            )
            raise InputError(msg)
        confidence = float(manifest["confidence"]) if min_confidence is None else min_confidence
        plans = {int(target["id"]): target for target in manifest["plan"]["images"]}
        told = manifest["plan"].get("calibration")  # runs of earlier versions do not name it
        calibration = None if told is None else Calibration.from_dict(told)
        proposals = []
        for image in manifest["images"]:
            seen = SlideDetections.load(_inside(folder, image["file"]))
            found = stitch(seen.boxes.above(confidence), manifest["method"])
            plan = plans[int(image["id"])]
            proposals.append(
                Proposals(
                    int(image["id"]),
                    found.xyxy,
                    found.score,
                    found.class_index,
                    None if image["mpp"] is None else float(image["mpp"]),
                    str(image["slide_fingerprint"]),
                    _searched(seen, plan["regions"]),
                    (int(image["width_px"]), int(image["height_px"])),
                    str(image["name"]),
                    tuple(plan["roi_classes"]),
                    str(plan["roi_sha256"]),
                    found.score_sd,
                    found.outline,
                    None if calibration is None else calibration.probability(found.score),
                )
            )
        return proposals, str(manifest["run"]), str(manifest["weights"]["sha256"])[:12]


def _inside(folder: Path, stem: str) -> Path:
    """The boxes of an image, which lie in the run's own folder whatever its manifest says."""
    file = folder / f"{stem}.parquet"
    if not is_plain_name(f"{stem}.parquet") or file.is_symlink():
        msg = (
            f"{folder / 'manifest.json'} names the file {str(stem)[:200]!r}, which is not one of its own "
            "folder. Run 'glombridge detect' again."
        )
        raise DamagedFileError(msg)
    return file


def _searched(seen: SlideDetections, regions: Sequence[str]) -> BaseGeometry:
    """What a run looked at: of a tile that reaches out of the regions asked for only what is inside."""
    if not regions:
        return seen.scanned_area
    try:
        asked = shapely.union_all(shapely.from_wkt(regions))
        return shapely.intersection(seen.scanned_area, asked)
    except shapely.errors.ShapelyError as error:
        raise ValueError(*error.args) from error


def _threshold(
    project: Project | None, point: StoredPoint | None, given: float | None
) -> tuple[float, str]:
    if given is not None:
        return given, "given by the user"
    if project is not None and project.settings.detect.min_confidence is not None:
        return project.settings.detect.min_confidence, "settings"
    if point is not None:
        return point.confidence, f"validation slides, {point.target}"
    return FALLBACK_CONFIDENCE, "fallback: no threshold was chosen on validation slides"
