"""``detect``: weights on the slides of a project, or on slide files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from ..detection.boxes import Boxes
from ..detection.detector import Detector
from ..detection.pipeline import SlideDetections, detect_slide
from ..detection.stitch import stitch
from ..errors import (
    DamagedFileError,
    GlombridgeError,
    InputError,
    MachineError,
    PartlyDoneError,
    ProtectedError,
)
from ..filenames import safe_name
from ..frames import Frame
from ..geojson_codec import write_geojson
from ..ledger.history import utc_now
from ..ledger.manifest import environment, write_json
from ..objects import ObjectKind, Outline, PathClass, SlideObject
from ..progress import SILENT, Reporter
from ..provenance import BOX, CONFIDENCE, PROPOSED
from ..qupath.store import ImageEntry
from ..slides.reader import fingerprint
from ..sync.push import Proposals, newest_detections
from .evaluate import check_classes, load_run
from .project import Project, spec_from

PARTIAL = ".partial"
FALLBACK_CONFIDENCE = 0.25
"""Used, and said so, when nobody has chosen a threshold on validation slides."""

_NAMESPACE = UUID("0d2bd6a5-6c39-5b0e-9a62-7b8f2f0f5a11")


@dataclass(frozen=True)
class DetectedImage:
    """One image of a detection run."""

    entry_id: int
    name: str
    found: int
    tiles_shown: int
    tiles: int
    file: str
    mpp: float | None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and the manifest."""
        return {
            "id": self.entry_id,
            "name": self.name,
            "found": self.found,
            "tiles_shown": self.tiles_shown,
            "tiles": self.tiles,
            "file": self.file,
            "mpp": self.mpp,
        }


@dataclass(frozen=True)
class DetectResult:
    """A finished detection run.

    Attributes:
        folder: GeoJSON and raw boxes per image, and ``manifest.json``.
        confidence: the threshold that was used, and where it came from.
    """

    folder: Path
    run: str
    confidence: float
    confidence_from: str
    images: tuple[DetectedImage, ...]
    failed: tuple[tuple[str, str], ...] = ()

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
    reporter: Reporter = SILENT,
) -> DetectResult:
    """Detect on the images of a project; those of test patients are left out unless asked for.

    Args:
        weights: run id or file; the newest run by default.
        images: names of the images wanted, all by default.
        out: folder to make instead of the next one under ``glombridge/detections``.
        min_confidence: instead of the operating point stored with the weights.

    Raises:
        InputError: no weights, an image that is not in the project, or no image left.
        PartlyDoneError: some slides failed; each is named, the others are complete.
    """
    file, manifest = load_run(project, weights)
    entries = _chosen(project, images, include_test=include_test)
    confidence, source = _threshold(project, file, min_confidence)
    settings = project.settings
    detector = Detector(
        file, cache=project.workspace.cache, device=device, threads=settings.train.threads
    )
    check_classes(project, detector)
    spec = spec_from(manifest)
    partial = _begin(project, out)
    folder = partial.with_name(partial.name.removesuffix(PARTIAL))
    done: list[DetectedImage] = []
    failed: list[tuple[str, str]] = []
    prints: dict[int, str] = {}
    last: GlombridgeError | None = None
    with reporter.task("detect", len(entries)) as task:
        for entry in entries:
            try:
                with project.open_slide(entry) as slide:
                    seen = detect_slide(
                        slide, spec, detector, batch=settings.detect.batch, task=task
                    )
                prints[entry.id] = print_of = fingerprint(slide.path)
                name = f"{entry.id:04d}_{safe_name(entry.name)}"
                done.append(
                    _write(
                        partial,
                        name,
                        entry,
                        print_of,
                        slide.frame,
                        seen,
                        detector.class_names,
                        confidence,
                    )
                )
            except GlombridgeError as error:
                failed.append((entry.name, str(error)))
                last = error
    if last is not None and not done:
        shutil.rmtree(partial)
        raise last
    run = folder.name
    write_json(
        partial / "manifest.json",
        {
            "kind": "detect",
            "run": run,
            "finished": utc_now(),
            "weights": {"run": manifest["run"], "sha256": manifest["weights"]["sha256"]},
            "confidence": confidence,
            "confidence_from": source,
            "classes": list(detector.class_names),
            "tiles": manifest["tiles"],
            "images": [{**i.as_dict(), "slide_fingerprint": prints[i.entry_id]} for i in done],
            "failed": [{"image": n, "reason": why} for n, why in failed],
            "environment": environment(),
        },
    )
    partial.rename(folder)
    result = DetectResult(folder, run, confidence, source, tuple(done), tuple(failed))
    project.workspace.record(
        "detect",
        run=run,
        weights_sha256=manifest["weights"]["sha256"],
        confidence=confidence,
        images=[i.entry_id for i in done],
        found=result.found,
    )
    if failed:
        lines = "\n".join(f"  image {n!r}: {why}" for n, why in failed)
        msg = f"{len(failed)} of {len(entries)} slides failed; the others are in {folder}:\n{lines}"
        raise PartlyDoneError(msg)
    return result


def load_proposals(
    project: Project, folder: Path | None = None, *, min_confidence: float | None = None
) -> tuple[list[Proposals], str, str]:
    """What a detection run proposes, stitched at its threshold or another one.

    Returns:
        Proposals per image, the run's id, and the short hash of its weights.

    Raises:
        InputError: the folder is not a finished detection run, or its classes are not the project's.
    """
    folder = folder or newest_detections(project.workspace)
    path = folder / "manifest.json"
    if not path.is_file():
        msg = f"{folder} is not a finished detection run: it has no manifest.json"
        raise InputError(msg)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["kind"] != "detect":
            msg = f"{folder} is a run of kind {manifest['kind']!r}, not of detections"
            raise InputError(msg)
        if manifest["classes"] != project.settings.class_names:
            msg = (
                f"{folder} detects {manifest['classes']}, but [classes] of the settings says "
                f"{project.settings.class_names}"
            )
            raise InputError(msg)
        confidence = float(manifest["confidence"]) if min_confidence is None else min_confidence
        proposals = []
        for image in manifest["images"]:
            seen = SlideDetections.load(folder / f"{image['file']}.npz")
            found = stitch(seen.boxes.above(confidence))
            proposals.append(
                Proposals(
                    int(image["id"]),
                    found.xyxy,
                    found.score,
                    found.class_index,
                    image["mpp"],
                    str(image["slide_fingerprint"]),
                    seen.scanned_area,
                    _size_px(image),
                )
            )
        return proposals, str(manifest["run"]), str(manifest["weights"]["sha256"])[:12]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        msg = f"{path} is not the manifest of a detection run: {error!r}"
        raise DamagedFileError(msg) from error


def _size_px(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Size of the frame an image was searched in; older runs do not say."""
    size = image.get("width_px"), image.get("height_px")
    return None if None in size else (int(size[0] or 0), int(size[1] or 0))


def _chosen(project: Project, names: Sequence[str], *, include_test: bool) -> list[ImageEntry]:
    entries = list(project.store.images())
    if names:
        unknown = sorted(set(names) - {e.name for e in entries})
        if unknown:
            msg = f"no image named {', '.join(map(repr, unknown))} in {project.store.project_file}"
            raise InputError(msg)
        entries = [e for e in entries if e.name in names]
    parts = project.parts()
    if not include_test:
        # A test patient's slides stay blind to the model, or later tests would be worth nothing.
        entries = [e for e in entries if _part(project, e, parts) != "test"]
    if not entries:
        msg = "no image left to detect on: all are of test patients. Give --include-test to do it."
        raise InputError(msg)
    return entries


def _part(project: Project, entry: ImageEntry, parts: dict[str, Any]) -> str | None:
    if not parts:
        return None
    part = parts.get(project.patient(entry))
    return str(part) if part else None


def _begin(project: Project, out: Path | None) -> Path:
    """The folder a run is written into before it gets its own name."""
    if out is None:
        return project.workspace.claim_run(project.workspace.detections, "detect", suffix=PARTIAL)
    if out.exists():
        msg = f"{out} is there already; give --out a folder to be made"
        raise ProtectedError(msg)
    partial = out.with_name(out.name + PARTIAL)
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        msg = f"cannot make {partial}: {error.strerror or error}"
        raise MachineError(msg) from error
    return partial


def _threshold(project: Project, weights: Path, given: float | None) -> tuple[float, str]:
    if given is not None:
        return given, "given by the user"
    if project.settings.detect.min_confidence is not None:
        return project.settings.detect.min_confidence, "settings"
    point = weights.parent.parent / "operating_point.json"
    if point.is_file():
        document = json.loads(point.read_text(encoding="utf-8"))
        return float(document["confidence"]), f"validation slides, {document['target']}"
    return FALLBACK_CONFIDENCE, "fallback: no threshold was chosen on validation slides"


def _write(
    folder: Path,
    name: str,
    entry: ImageEntry,
    slide: str,
    frame: Frame,
    seen: SlideDetections,
    class_names: Sequence[str],
    confidence: float,
) -> DetectedImage:
    found = stitch(seen.boxes.above(confidence))
    seen.save(folder / f"{name}.npz")
    write_geojson(folder / f"{name}.geojson", as_objects(found, f"{entry.id}|{slide}", class_names))
    mpp = None if frame.mpp_x is None or frame.mpp_y is None else (frame.mpp_x + frame.mpp_y) / 2
    return DetectedImage(entry.id, entry.name, len(found), len(seen.scanned), seen.tiles, name, mpp)


def as_objects(found: Boxes, image: str, class_names: Sequence[str]) -> list[SlideObject]:
    """Detections as QuPath objects, for a GeoJSON file that QuPath can import by itself.

    Args:
        found: stitched boxes in QuPath pixels.
        image: what the image is known by; with the place it makes an object's id.
        class_names: by class index.
    """
    objects = []
    for k in range(len(found)):
        x0, y0, x1, y1 = np.round(found.xyxy[k], 2).tolist()
        name = class_names[int(found.class_index[k])]
        objects.append(
            SlideObject(
                id=uuid5(_NAMESPACE, f"{image}|{name}|{(x0, y0, x1, y1)}"),
                kind=ObjectKind.ANNOTATION,
                outline=Outline.rectangle(x0, y0, x1, y1),
                path_class=PathClass.parse(name).derive(PROPOSED),
                locked=True,
                measurements={CONFIDENCE: round(float(found.score[k]), 6)},
                metadata={BOX: "true"},
            )
        )
    return objects
