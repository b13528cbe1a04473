"""``tile``: from annotations to a YOLO dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from ..errors import GlombridgeError, InputError, PartlyDoneError
from ..ledger import ProjectLock
from ..objects import SlideObject
from ..progress import SILENT, Reporter
from ..sync.pull import ImageAnnotations, Pull, pull
from ..tiles.labels import Areas, ClassMap, VisibleRule
from ..tiles.split import Fractions, Part, split_patients
from ..tiles.writer import DatasetResult, DatasetSettings, SlideJob, TileProgress, write_dataset
from .project import Project


@dataclass(frozen=True)
class TileResult:
    """A dataset and where it came from."""

    dataset: DatasetResult
    pull: Pull
    parts: dict[str, Part]
    searched: str

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "dataset": str(self.dataset.folder),
            "pull": self.pull.folder.name if self.pull.folder else None,
            "patients": self.parts,
            "searched": self.searched,
            "tiles": dict(self.dataset.tiles),
            "objects": {part: dict(n) for part, n in self.dataset.objects.items()},
            "not_whole_in_any_tile": {k: list(v) for k, v in self.dataset.not_whole.items()},
            "failed": [{"image": name, "reason": why} for name, why in self.dataset.failed],
        }


def tile(
    project: Project,
    *,
    out: Path | None = None,
    allow_few_patients: bool = False,
    break_lock: bool = False,
    reporter: Reporter = SILENT,
) -> TileResult:
    """Pull the annotations, decide the split, cut the searched slides into tiles.

    Raises:
        InputError: no annotation of a class, an unknown patient, a slide that cannot be used.
        PartlyDoneError: some slides failed; the others are in the dataset.
        MachineError: disk full; nothing is left under a final name.
    """
    settings = project.settings
    with ProjectLock(project.workspace.lock_file, break_lock=break_lock):
        pulled = pull(project.store, project.workspace, settings, reporter=reporter)
        images = [i for i in pulled.images if i.searched is not None]
        check_truth(project, pulled)
        patients = {i.entry.id: project.patient(i.entry) for i in images}
        parts = decide_parts(project, images, patients, allow_few=allow_few_patients)
        jobs, failed = _jobs(project, images, patients, parts)
        folder = out or project.workspace.new_run(project.workspace.datasets, "tiles")
        with reporter.task("cut tiles", len(jobs)) as task:

            def on_progress(at: TileProgress) -> None:
                task.advance(1 / max(1, at.tiles), note=f"{at.image_name} {at.tile}/{at.tiles}")

            dataset = write_dataset(jobs, folder, dataset_settings(project), progress=on_progress)
        project.workspace.history.append(
            "tile",
            dataset=project.workspace.relative(folder),
            pull=pulled.folder.name if pulled.folder else None,
            tiles=dict(dataset.tiles),
        )
    failed = [*failed, *dataset.failed]
    result = TileResult(
        dataset,
        pulled,
        {p: parts[p] for p in sorted(set(patients.values()))},
        settings.project.searched,
    )
    if failed:
        lines = "\n".join(f"  image {name!r}: {why}" for name, why in failed)
        msg = f"{len(failed)} of {len(images)} slides were not cut; the others are in {folder}:\n{lines}"
        raise PartlyDoneError(msg)
    return result


def dataset_settings(project: Project) -> DatasetSettings:
    """How the settings want tiles to be cut and chosen."""
    settings = project.settings
    return DatasetSettings(
        class_map=ClassMap(
            tuple(settings.class_names),
            {a: i for i, aliases in enumerate(settings.classes.values()) for a in aliases},
        ),
        spec=project.tile_spec(),
        rule=VisibleRule(settings.tiles.keep_visible, settings.tiles.drop_visible),
        background_ratio=settings.tiles.background_ratio,
        seed=settings.seed,
        jpeg_quality=settings.tiles.jpeg_quality,
    )


def decide_parts(
    project: Project,
    images: list[ImageAnnotations],
    patients: dict[int, str],
    *,
    allow_few: bool,
) -> dict[str, Part]:
    """Split the patients, keep every earlier decision, and put new ones on record."""
    settings = project.settings
    objects: Counter[str] = Counter()
    for image in images:
        objects[patients[image.entry.id]] += len(image.roles.truth)
    known = project.parts()
    share = settings.split
    parts = split_patients(
        objects,
        seed=settings.seed,
        fractions=Fractions(
            (1 - share.test) * (1 - share.val), (1 - share.test) * share.val, share.test
        ),
        frozen=known,
        allow_few=allow_few,
    )
    new = {patient: part for patient, part in parts.items() if patient not in known}
    if new:
        project.workspace.history.append("split", patients=new, seed=settings.seed)
    return {**known, **parts}


def check_truth(project: Project, pulled: Pull) -> None:
    """Refuse to learn from annotations that would be misunderstood.

    Raises:
        InputError: no annotation of any detector class, or one of a class derived from it that the
            settings do not mention: as background it would teach the opposite.
    """
    settings = project.settings
    unknown: Counter[str] = Counter()
    for image in pulled.images:
        unknown.update(image.roles.unknown)
    if unknown:
        names = ", ".join(f"{name!r} ({n})" for name, n in unknown.items())
        msg = (
            f"annotations of classes the settings do not mention: {names}. Write each into [classes] "
            f"of {project.workspace.settings_file} if it counts as an object, else into unused."
        )
        raise InputError(msg)
    if not pulled.n_truth:
        there: Counter[str] = Counter(
            str(o.path_class) if o.path_class else "unclassified"
            for image in pulled.images
            for o in image.objects
        )
        names = ", ".join(f"{n} x {c!r}" for c, n in there.most_common()) or "none at all"
        wanted = ", ".join(repr(a) for aliases in settings.classes.values() for a in aliases)
        msg = (
            f"no annotation of class {wanted} in the project (annotations there: {names}). Annotate "
            f"in QuPath and save, or write your class into [classes] of {project.workspace.settings_file}."
        )
        raise InputError(msg)


def areas_of(image: ImageAnnotations) -> Areas:
    """Where an image may be learnt from."""
    return Areas(
        searched=image.searched,
        ignored=_union(image.roles.ignored),
        pending=_union(image.roles.pending),
        cleared=_union(image.roles.hard_negatives),
    )


def _jobs(
    project: Project,
    images: list[ImageAnnotations],
    patients: dict[int, str],
    parts: dict[str, Part],
) -> tuple[list[SlideJob], list[tuple[str, str]]]:
    jobs: list[SlideJob] = []
    failed: list[tuple[str, str]] = []
    for image in images:
        entry = image.entry
        try:
            with project.open_slide(entry) as slide:
                path, frame = slide.path, slide.frame
            frame.target_size_px(project.settings.tiles.mpp)
        except GlombridgeError as error:
            failed.append((entry.name, str(error)))
            continue
        patient = patients[entry.id]
        jobs.append(
            SlideJob(
                entry_id=entry.id,
                image_name=entry.name,
                slide_path=path,
                frame=frame,
                patient=patient,
                part=parts[patient],
                objects=tuple(t.object for t in image.roles.truth),
                areas=areas_of(image),
                hard_negatives=image.roles.hard_negatives,
            )
        )
    if not jobs:
        lines = "\n".join(f"  image {name!r}: {why}" for name, why in failed)
        msg = f"not one slide can be cut:\n{lines}"
        raise InputError(msg)
    return jobs, failed


def _union(objects: tuple[SlideObject, ...]) -> BaseGeometry | None:
    areas = [o.outline.geometry for o in objects if o.outline is not None and o.outline.is_area]
    return shapely.union_all([shapely.make_valid(a) for a in areas]) if areas else None
