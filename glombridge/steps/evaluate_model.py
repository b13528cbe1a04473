"""Weights on the held-out slides of a project: what is seen, and the confidence to work at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import expecting, parse_json
from ..errors import InputError, ProtectedError
from ..evaluation.metrics import OperatingPoint, choose_operating_point
from ..evaluation.results import PartResults
from ..evaluation.slides import JudgedSlide
from ..evaluation.sweep import Sweep
from ..filenames import is_plain_name, shown_line
from ..ledger.manifest import sha256_of
from ..progress import SILENT, Reporter
from ..scale import Cluster
from ..sync.pull import read_annotations
from ..sync.writing import refuse_vanished
from .evaluate_look import HeldOut, complete_images, look, refuse_other_classes
from .project import Project
from .truth import check_understood
from .weights import manifest_of

PARTS = ("val", "test")


@dataclass(frozen=True)
class EvaluatedModel:
    """One set of weights on the held-out slides.

    Attributes:
        name: the training run, or the weights file's name.
        sweeps: by part.
        point: the confidence chosen on validation slides.
    """

    name: str
    sha256: str
    slides: tuple[JudgedSlide, ...]
    sweeps: Mapping[str, Sweep]
    point: OperatingPoint

    def of(self, part: str) -> list[JudgedSlide]:
        """The slides of one part."""
        return [s for s in self.slides if s.part == part]

    def results(self, part: str, min_iou: float) -> PartResults:
        """All figures of one part, at the chosen confidence."""
        return PartResults.of(
            self.of(part),
            self.sweeps[part],
            confidence=self.point.confidence,
            min_iou=min_iou,
        )


def evaluated(
    project: Project,
    file: Path,
    manifest: Mapping[str, Any],
    held_out: Sequence[HeldOut],
    device: str | None,
    reporter: Reporter,
    cluster: Cluster | None = None,
) -> EvaluatedModel:
    """Look at the held-out slides and choose the confidence on the validation slides.

    Raises:
        InputError: weights of other classes, or a slide that cannot be read.
        ProtectedError: a run of the project that was trained on a patient who is held out now.
    """
    refuse_other_classes(project, list(manifest["classes"]))
    is_own = file.parent.parent.parent == project.workspace.runs
    if is_own:
        _refuse_seen_patients(project, manifest, held_out)
    slides = tuple(
        look(project, file, manifest, held_out, device=device, cluster=cluster, reporter=reporter)
    )
    chosen = project.settings.evaluate
    sweeps = {
        part: Sweep.over([s for s in slides if s.part == part], min_iou=chosen.iou)
        for part in PARTS
    }
    point = choose_operating_point(
        sweeps["val"].curve(), target=chosen.target, target_recall=chosen.target_recall
    )
    name = str(manifest["run"]) if is_own else file.name
    return EvaluatedModel(name, str(manifest["weights"]["sha256"]), slides, sweeps, point)


def _refuse_seen_patients(
    project: Project, manifest: Mapping[str, Any], held_out: Sequence[HeldOut]
) -> None:
    """A patient never changes sides, unless the history was lost, put back from a backup or edited.

    An image does where it turns out to be of another patient.
    """
    runs = list(_with_starts(project, manifest))
    history = project.workspace.history
    cut_here = {event.get("manifest_sha256") for event in history.events("tile")}
    given = {event["run"]: str(event.get("dataset")) for event in history.events("train")}
    # A dataset of another project, which is on record by its bare name, has patients of its own: P01 is
    # somebody else there.
    own = [
        m
        for m in runs
        if m.get("dataset", {}).get("manifest_sha256") in cut_here
        or "/" in given.get(str(m["run"]), "/")
    ]
    taught = {p for m in own for p in _patients_taught_by(m)}
    shown = {i for m in runs for i in _images_taught_by(project, m)}
    seen = sorted({x.patient for x in held_out if x.patient in taught})
    seen += sorted({x.image.entry.name for x in held_out if x.image.entry.id in shown})
    if seen:
        msg = (
            f"{manifest['run']} was trained on what is held out now: {', '.join(map(shown_line, seen))}. Its "
            "figures would be too good. The sides stand in glombridge/history.jsonl (event 'split'): restore it "
            "from a backup, or run 'glombridge tile' and train anew."
        )
        raise ProtectedError(msg)


def _patients_taught_by(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from manifest.get("dataset", {}).get("patients", {}).get("train", ())


def _images_taught_by(project: Project, manifest: Mapping[str, Any]) -> Iterator[int]:
    """Entry ids of the images of a run's dataset that trained, where the dataset is still there."""
    told = manifest.get("dataset", {})
    file = project.workspace.datasets / str(told.get("name")) / "manifest.json"
    is_here = is_plain_name(str(told.get("name"))) and file.is_file()
    if is_here and sha256_of(file) == told.get("manifest_sha256"):
        with expecting(file, "the manifest of a dataset", f"Remove {file.parent}."):
            slides = parse_json(file.read_text(encoding="utf-8"))["slides"]
            yield from [int(s["entry_id"]) for s in slides if s["part"] == "train"]


def _with_starts(project: Project, manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A run's manifest, and that of each run of the project that it went on from."""
    seen: set[str] = set()
    while manifest["weights"]["sha256"] not in seen:
        yield manifest
        seen.add(manifest["weights"]["sha256"])
        start = manifest.get("start", {})
        name = str(start.get("model"))
        file = project.workspace.runs / name / "weights" / "best.pt"
        if start.get("kind") != "run" or not is_plain_name(name) or not file.is_file():
            return
        before = manifest_of(file)
        if before["weights"]["sha256"] != start.get("sha256"):
            return  # a run of that name, but of another project
        manifest = before


def held_out_images(project: Project, *, reporter: Reporter = SILENT) -> list[HeldOut]:
    """The searched images of validation and test patients.

    Raises:
        InputError: the validation images hold no objects, so that nothing can be chosen on them, or
            annotations that would be misunderstood.
        PartlyDoneError: an image that cannot be read.
    """
    parts = project.parts()
    complete = complete_images(project)
    with project.workspace.ledger_view() as ledger:
        images = read_annotations(
            project.store,
            project.settings,
            on_image=lambda contents: refuse_vanished(ledger, contents),
            reporter=reporter,
        )
    held_out = [
        HeldOut(image, patient, str(parts[patient]), image.entry.id in complete)
        for image in images
        if image.searched is not None
        and (patient := project.patient(image.entry)) in parts
        and parts[patient] in PARTS
    ]
    check_understood(project, [x.image for x in held_out])
    if not any(x.image.roles.truth for x in held_out if x.part == "val"):
        patients = sorted(p for p, part in parts.items() if part == "val")
        who = (
            f"patients {', '.join(map(shown_line, patients))}"
            if patients
            else "there is no validation patient yet"
        )
        msg = (
            f"the validation slides hold no objects ({who}), so no threshold can be chosen. Annotate "
            "slides of a validation patient, or annotate more patients and run 'glombridge tile'."
        )
        raise InputError(msg)
    return held_out


def load_run(project: Project, weights: str | None) -> tuple[Path, dict[str, Any]]:
    """A weights file and the manifest of the run that made it.

    Raises:
        InputError: no such weights; weights without a manifest, whose tiles nobody knows; or a
            file that is not the one the manifest names.
    """
    file = project.workspace.weights_of(weights)
    return file, manifest_of(file)
