"""``evaluate``: how good are the weights, per slide, after stitching; and at which confidence."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import GlombridgeError, UsageError
from ..evaluation.annotator import compare_orders
from ..evaluation.calibration import Calibration, calibrate, reliability
from ..evaluation.faults import Fault, faults_of
from ..evaluation.intervals import LEVEL
from ..evaluation.metrics import OperatingPoint, Score
from ..evaluation.results import compare, ranking, rival_sees
from ..evaluation.slides import JudgedSlide
from ..evaluation.tile_level import MEANING, tile_figures
from ..filenames import require_inside
from ..ledger.file_set import write_file_set
from ..ledger.history import utc_now
from ..ledger.manifest import environment, json_text, sha256_of
from ..progress import SILENT, Reporter
from ..scale import on_cluster
from ..training.dataset import Dataset, check_dataset
from .evaluate_look import check_classes
from .evaluate_model import PARTS, EvaluatedModel, evaluated, held_out_images, load_run
from .held_model import CPU
from .operating_point import FILE as POINT
from .project import Project

log = logging.getLogger(__name__)

__all__ = ["EvaluateResult", "check_classes", "evaluate", "load_run"]

DOCUMENT = "evaluation.json"
FORMAT = "glombridge evaluation 1"


@dataclass(frozen=True)
class SlideResult:
    """One slide at the operating point.

    Attributes:
        count_error: detections minus objects.
    """

    id: int
    name: str
    patient: str
    part: str
    stain: str
    score: Score
    count_error: int

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "id": self.id,
            "image": self.name,
            "patient": self.patient,
            "part": self.part,
            "stain": self.stain,
            **self.score.as_dict(),
            "count_error": self.count_error,
        }


@dataclass(frozen=True)
class EvaluateResult:
    """How good the weights are.

    Attributes:
        run: the training run, or the weights file's name.
        point: the confidence chosen on validation slides.
        slides: per slide, at that confidence.
        faults: what went wrong, object by object.
        document: everything, as JSON has it.
    """

    run: str
    point: OperatingPoint
    slides: tuple[SlideResult, ...]
    faults: tuple[Fault, ...]
    document: Mapping[str, Any] = field(repr=False)

    def total(self, part: str) -> Score:
        """Summed over the slides of one part."""
        scores = [s.score for s in self.slides if s.part == part]
        return Score(
            sum(s.truth for s in scores), sum(s.found for s in scores), sum(s.false for s in scores)
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return dict(self.document)


def evaluate(
    project: Project,
    *,
    weights: str | None = None,
    against: str | None = None,
    tiles: bool = True,
    device: str | None = None,
    cluster: str | None = None,
    reporter: Reporter = SILENT,
) -> EvaluateResult:
    """Detect on validation and test slides, choose the threshold on validation, report on test.

    Writes ``operating_point.json`` and ``evaluation.json`` beside the weights of a run of this
    project, both of one call or not at all, and keeps the raw boxes there.

    Args:
        project: the project.
        weights: run id or file; the newest run by default.
        against: other weights to compare with on the same slides.
        tiles: let ultralytics validate on the tiles of the run's dataset, too.
        device: as torch names it.
        cluster: a Dask cluster that looks at the slides, as :func:`.open_cluster` names it. The figures
            on tiles are made here in any case.
        reporter: for progress.

    Raises:
        InputError: no weights, no validation slide with objects, or a slide that cannot be read.
        PartlyDoneError: on a cluster, slides that cannot be read; the others need not be again.
        UsageError: a run against itself.
        ProtectedError: another process is putting its evaluation there.
        MachineError: the two cannot be written; the earlier ones are as they were.
        MissingComponentError: a cluster is asked for and Dask is missing, or its workers have other
            versions.
    """
    file, manifest = load_run(project, weights)
    rival = None if against is None else load_run(project, against)
    if rival is not None and rival[1]["weights"]["sha256"] == manifest["weights"]["sha256"]:
        msg = f"{against!r} are the very weights that are evaluated; give others to compare with"
        raise UsageError(msg)
    held_out = held_out_images(project, reporter=reporter)
    with on_cluster(cluster, reporter) as workers:
        model = evaluated(project, file, manifest, held_out, device, reporter, workers)
        second = rival and evaluated(project, *rival, held_out, device, reporter, workers)
    document = _document(project, model, second)
    if tiles:
        # Made here: a GPU of the workers is not one of this machine.
        here = device if cluster is None or device == CPU else None
        document["tile_level"] = _tile_level(project, file, manifest, here)
    chosen = project.settings.evaluate
    faults = tuple(
        fault for s in model.slides for fault in faults_of(s, model.point.confidence, chosen.iou)
    )
    document["faults"] = [f.as_dict() for f in faults]
    document |= {"finished": utc_now(), "environment": environment()}
    slides = tuple(_slide_result(s, model.point.confidence, chosen.iou) for s in model.slides)
    result = EvaluateResult(model.name, model.point, slides, faults, document)
    run = file.parent.parent
    if run.parent == project.workspace.runs:
        # The point last: who finds none works at another confidence and says so, and 'status' names this command.
        told = {DOCUMENT: document, POINT: document["operating_point"]}
        write_file_set(run, {name: json_text(part) for name, part in told.items()})
    project.workspace.record(
        "evaluate",
        run=result.run,
        weights_sha256=model.sha256,
        confidence=model.point.confidence,
        test=result.total("test").as_dict(),
    )
    return result


def _document(
    project: Project, model: EvaluatedModel, second: EvaluatedModel | None
) -> dict[str, Any]:
    settings = project.settings.evaluate
    spread = {"resamples": settings.resamples, "seed": project.settings.seed}
    results = {part: model.results(part, settings.iou) for part in PARTS}
    point, calibration = model.point, _calibration(model, settings.iou)
    tested = ranking(model.of("test"), settings.iou)
    told: dict[str, Any] = {
        "format": FORMAT,
        "run": model.name,
        "weights_sha256": model.sha256,
        "classes": project.settings.class_names,
        "matching": f"one to one, IoU of boxes >= {settings.iou}, after stitching",
        "searched": project.settings.project.searched,
        "patient_is_image": project.settings.patients.source == "image",
        "intervals": f"bootstrap over patients, {LEVEL:.0%}, {settings.resamples} resamples",
        "operating_point": {
            "confidence": point.confidence,
            "target": point.target,
            "reached": point.reached,
            "chosen_on": "validation slides",
            "validation": point.validation.as_dict(),
            "calibration": calibration and calibration.as_dict(),
        },
        "results": {
            part: results[part].figures(project.settings.class_names, **spread) for part in PARTS
        },
        "test": results["test"].boxes.score(results["test"].boxes.at(point.confidence)).as_dict(),
        "slides": [
            _slide_result(s, point.confidence, settings.iou).as_dict() for s in model.slides
        ],
        "curve": [
            {"confidence": t, "validation": v.as_dict(), "test": s.as_dict()}
            for (t, v), (_, s) in zip(
                model.sweeps["val"].curve(), model.sweeps["test"].curve(), strict=True
            )
        ],
        "reliability": {part: _reliability(model, part, calibration) for part in PARTS},
        "review": compare_orders(
            tested,
            point.confidence,
            seed=project.settings.seed,
            rival_sees=None
            if second is None
            else rival_sees(model.of("test"), second.of("test"), tested, second.point.confidence),
        ),
    }
    if second is not None:
        told["comparison"] = {
            "first": model.name,
            "second": second.name,
            "confidences": [point.confidence, second.point.confidence],
            "part": "test",
            "difference": "second minus first, on the same slides, patients resampled together",
            "figures": compare(results["test"], second.results("test", settings.iou), **spread),
        }
    return told


def _calibration(model: EvaluatedModel, min_iou: float) -> Calibration | None:
    slides = model.of("val")
    ranked = ranking(slides, min_iou)
    return calibrate(ranked.score, ranked.is_true, n_objects=int(ranked.n_truth.sum()))


def _reliability(
    model: EvaluatedModel, part: str, calibration: Calibration | None
) -> dict[str, Any] | None:
    slides = model.of(part)
    ranked = ranking(slides, 0.5) if slides else None
    if ranked is None or not len(ranked.score):
        return None
    told = {"scores": reliability(ranked.score, ranked.is_true).as_dict()}
    if calibration is not None:
        calibrated = calibration.probability(ranked.score)
        told["calibrated"] = reliability(calibrated, ranked.is_true).as_dict()
    return told


def _slide_result(slide: JudgedSlide, confidence: float, min_iou: float) -> SlideResult:
    score = Score.of([slide.match(confidence, min_iou)])
    return SlideResult(
        slide.id,
        slide.name,
        slide.patient,
        slide.part,
        slide.stain,
        score,
        score.found + score.false - score.truth,
    )


def _dataset_of(project: Project, learnt_from: Mapping[str, Any]) -> tuple[Dataset | None, str]:
    """The dataset a run learnt from, told by its fingerprint and not by its name, or why there is none."""
    name, wanted = str(learnt_from.get("name")), learnt_from.get("manifest_sha256")
    home = project.workspace.datasets
    for folder in sorted(home.glob("*"), key=lambda p: (p.name != name, p.name)):
        manifest = folder / "manifest.json"
        if not manifest.is_file() or sha256_of(manifest) != wanted:
            continue
        try:
            require_inside(manifest, home)
            found = check_dataset(folder)
        except GlombridgeError as error:
            # The figures of the slides do not need it. The reason holds a path, which is not for a report.
            log.warning("%s", error)
            return None, f"dataset {folder.name} is not what was written"
        if found.files_sha256 != learnt_from.get("files_sha256"):
            return (
                None,
                f"the files of dataset {folder.name} have changed since the run learnt from it",
            )
        return found, ""
    if any(folder.name == name for folder in home.glob("*")):
        return (
            None,
            f"dataset {name} is not the one that the run learnt from, which is no longer there",
        )
    return None, f"dataset {name} is no longer there"


def _tile_level(
    project: Project, file: Path, manifest: Mapping[str, Any], device: str | None
) -> dict[str, Any]:
    """Ultralytics' figures on the run's own dataset, or why there are none."""
    dataset, why = _dataset_of(project, manifest.get("dataset", {}))
    if dataset is None:
        log.warning("no figures on tiles: %s", why)
        return {"meaning": MEANING, "missing": why}
    tile, n_tiles = manifest["tiles"], dataset.tiles
    told: dict[str, Any] = {"meaning": MEANING, "dataset": dataset.folder.name}
    with tempfile.TemporaryDirectory(prefix="glombridge-") as scratch:
        for part in PARTS:
            if not n_tiles[part]:
                told[part] = None
                continue
            told[part] = tile_figures(
                file,
                dataset.folder,
                part,
                n_tiles=n_tiles[part],
                tile_px=(int(tile["width_px"]), int(tile["height_px"])),
                batch=project.settings.detect.batch,
                cache=project.workspace.cache,
                runs=project.workspace.runs,
                scratch=Path(scratch),
                device=device,
                threads=project.settings.train.threads,
            ).as_dict()
    return told
