"""``tile``: from annotations to a YOLO dataset."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import GlombridgeError, InputError, PartlyDoneError
from ..ledger import ProjectLock, open_codes
from ..ledger.manifest import sha256_of
from ..progress import SILENT, Reporter, Task
from ..scale import open_cluster
from ..settings import PatientSource, SplitSettings, TileSettings
from ..sync.pull import ImageAnnotations, Pull, pull
from ..sync.roles import union_of
from ..tiles.crew import Hands, Threads
from ..tiles.labels import Areas, ClassMap, VisibleRule
from ..tiles.split import Fractions, Part, check_spelling, spelling, split_patients
from ..tiles.writer import DatasetResult, DatasetSettings, SlideJob, TileProgress, write_dataset
from .deidentify import DATASET, coded_jobs
from .project import Project
from .tile_cluster import ClusterHands
from .truth import check_truth

_STRICTNESS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class TileResult:
    """A dataset and where it came from."""

    dataset: DatasetResult
    pull: Pull
    parts: dict[str, Part]
    searched: str
    patients_from: PatientSource = "metadata"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        d = self.dataset
        return {
            "dataset": str(d.folder),
            "pull": self.pull.folder.name if self.pull.folder else None,
            "patients": self.parts,
            "patients_from": self.patients_from,
            "searched": self.searched,
            "tiles": dict(d.tiles),
            "objects": {part: dict(n) for part, n in d.objects.items()},
            "tile_px": [d.spec.width_px, d.spec.height_px],
            "overlap_px": list(d.spec.overlap_px),
            "mpp": d.spec.mpp,
            "objects_whole_in_a_tile": d.objects_used - sum(map(len, d.not_whole.values())),
            "not_whole_in_any_tile": {k: list(v) for k, v in d.not_whole.items()},
            "slides_cut": d.cut,
            "leak_check": None if d.leaks is None else d.leaks.as_dict(),
            "failed": [{"image": name, "reason": why} for name, why in d.failed],
        }


def tile(
    project: Project,
    *,
    out: Path | None = None,
    tiles: TileSettings | None = None,
    split: SplitSettings | None = None,
    patient_from: PatientSource | None = None,
    allow_few_patients: bool = False,
    fresh: bool = False,
    previews: bool = False,
    deidentify: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    break_lock: bool = False,
    reporter: Reporter = SILENT,
) -> TileResult:
    """Pull the annotations, decide the split, cut the searched slides into tiles.

    Slides of the newest dataset that have not changed are not cut again; where nothing has
    changed at all, that dataset is given back.

    Args:
        project: to take annotations from.
        out: folder of the dataset; the next one under ``glombridge/datasets`` by default.
        tiles: how to cut, instead of the settings.
        split: how to split, instead of the settings.
        patient_from: where patients come from, instead of the settings; remembered by the project
            where these say nothing.
        allow_few_patients: accept fewer than three.
        fresh: cut every slide, whatever is there already.
        previews: draw a picture per slide.
        deidentify: write codes instead of the names of images and patients; such datasets are
            numbered apart, and training takes one only where it is told to.
        workers: threads; on a cluster those for one slide, 1 by default.
        cluster: a Dask cluster that does the work on slides, as :func:`.open_cluster` names it.
        break_lock: take the project lock whoever holds it.
        reporter: told about the progress.

    Raises:
        InputError: no annotation of a class, an unknown patient, a slide that cannot be used.
        PartlyDoneError: some slides failed; the others are in the dataset.
        ProtectedError: a patient or a slide would be on two sides of the split.
        MachineError: disk full; nothing is left under a final name, and the next call goes on.
        UsageError: tiles or patients that cannot be.
        MissingComponentError: a cluster is asked for and Dask is missing, or its workers have other
            versions.
    """
    if tiles is not None or split is not None:
        changes = {
            "tiles": tiles or project.settings.tiles,
            "split": split or project.settings.split,
        }
        project = replace(project, settings=project.settings.model_copy(update=changes))
    if patient_from is not None:
        project = project.with_patients_from(patient_from)
    settings, workspace = project.settings, project.workspace
    wanted = dataset_settings(project)
    kind = DATASET if deidentify else "tiles"
    with (
        open_codes(workspace) if deidentify else nullcontext() as codes,
        _hands(cluster, workers, reporter) as hands,
        ProjectLock(workspace.lock_file, break_lock=break_lock),
    ):
        pulled = pull(project.store, workspace, settings, reporter=reporter)
        images = [i for i in pulled.images if i.searched is not None]
        check_truth(project, pulled)
        project.refuse_shared_rows(i.entry for i in images)
        patients = {i.entry.id: project.patient(i.entry) for i in images}
        parts = decide_parts(project, images, patients, allow_few=allow_few_patients)
        jobs, failed = _jobs(project, images, patients, parts)
        if codes is not None:
            jobs = coded_jobs(jobs, codes)
        newest = None if fresh else workspace.latest_run(workspace.datasets, kind)
        folder = out or workspace.new_run(workspace.datasets, kind)
        with reporter.task("cut tiles", len(jobs)) as task:
            dataset = write_dataset(
                jobs,
                folder,
                wanted,
                previous=newest,
                reuse=not fresh,
                hands=hands,
                previews=previews,
                coded=None if codes is None else codes.fingerprint,
                progress=_teller(task),
            )
        if dataset.folder == folder:
            workspace.history.append(
                "tile",
                dataset=workspace.relative(folder),
                manifest_sha256=sha256_of(dataset.manifest),
                pull=pulled.folder.name if pulled.folder else None,
                tiles=dict(dataset.tiles),
            )
    named = (lambda code: code) if codes is None else codes.name_of
    failed = [*failed, *((named(image), why) for image, why in dataset.failed)]
    result = TileResult(
        dataset,
        pulled,
        {p: parts[p] for p in sorted(set(patients.values()))},
        settings.project.searched,
        project.patient_source,
    )
    if failed:
        lines = "\n".join(f"  image {name!r}: {why}" for name, why in failed)
        msg = (
            f"{len(failed)} of {len(images)} slides were not cut; the others are in "
            f"{dataset.folder}:\n{lines}"
        )
        raise PartlyDoneError(msg)
    return result


@contextmanager
def _hands(cluster: str | None, workers: int | None, reporter: Reporter) -> Iterator[Hands]:
    if cluster is None:
        yield Threads(workers)
        return
    with open_cluster(cluster, reporter=reporter) as opened:
        yield ClusterHands(opened, workers)


def _teller(task: Task) -> Callable[[TileProgress], None]:
    """Progress as shares of slides, with the time left for the slide in work."""
    shares: dict[int, float] = {}
    begun: dict[int, float] = {}

    def tell(at: TileProgress) -> None:
        share = at.tile / at.tiles if at.tiles else 1.0
        now = time.monotonic()
        spent = now - begun.setdefault(at.slide, now)
        left = f", {spent * (at.tiles - at.tile) / at.tile:.0f} s left" if at.tile > 1 else ""
        note = f"{at.image_name} ({at.slide} of {at.slides}): {at.tile}/{at.tiles}{left}"
        task.advance(share - shares.get(at.slide, 0.0), note=note)
        shares[at.slide] = share

    return tell


def dataset_settings(project: Project) -> DatasetSettings:
    """How the settings want tiles to be cut and chosen."""
    settings = project.settings
    return DatasetSettings(
        class_map=ClassMap(
            tuple(settings.class_names),
            {a: i for i, aliases in enumerate(settings.class_aliases.values()) for a in aliases},
        ),
        spec=project.tile_spec(),
        rule=VisibleRule(settings.tiles.keep_visible, settings.tiles.drop_visible),
        background_ratio=settings.tiles.background_ratio,
        seed=settings.seed,
        jpeg_quality=settings.tiles.jpeg_quality,
        task=settings.tiles.task,
        patients_from=project.patient_source,
    )


def decide_parts(
    project: Project,
    images: list[ImageAnnotations],
    patients: dict[int, str],
    *,
    allow_few: bool,
) -> dict[str, Part]:
    """Split the patients, keep every earlier decision, and put new ones on record.

    Raises:
        InputError: fewer than three patients, or two whose names are spelt alike.
    """
    settings = project.settings
    objects: Counter[str] = Counter()
    stains: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for image in images:
        patient, stain = patients[image.entry.id], stain_of(project, image)
        objects[patient] += len(image.roles.truth)
        if stain:
            stains[patient][stain] += len(image.roles.truth)
    check_spelling({patients[i.entry.id]: i.entry.name for i in images})
    known = project.parts()
    frozen = {**_inherited(project, images, patients, known), **known}
    share = settings.split
    parts = split_patients(
        objects,
        seed=settings.seed,
        fractions=Fractions(
            (1 - share.test) * (1 - share.val), (1 - share.test) * share.val, share.test
        ),
        frozen=frozen,
        allow_few=allow_few,
        stains=stains,
    )
    new = {patient: part for patient, part in parts.items() if patient not in known}
    with project.workspace.ledger_view() as ledger:
        recorded = ledger.patients_of_images()
    whose = {str(i): name for i, name in patients.items() if recorded.get(i) != name}
    if new or whose:
        project.workspace.history.append(
            "split",
            patients=new,
            images=whose,
            seed=settings.seed,
            patient_from=project.patient_source,
        )
    return {**known, **parts}


def _inherited(
    project: Project,
    images: list[ImageAnnotations],
    patients: dict[int, str],
    known: dict[str, Part],
) -> dict[str, Part]:
    """Parts that patients get from what their images were called before.

    Names are corrected, and where they come from may change. A slide that was in test must stay there,
    and with it its patient; so the strictest side that any of a patient's images was on is kept.
    """
    earlier = project.earlier_patients(i.entry for i in images)
    before = [(patients[i.entry.id], earlier.get(i.entry.id, "")) for i in images]
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in known:
        alike[spelling(name)].append(name)
    before += [(p, name) for p in set(patients.values()) for name in alike[spelling(p)]]
    found: dict[str, Part] = {}
    for patient, name in before:
        part = known.get(name)
        if part is not None:
            found[patient] = max(part, found.get(patient, part), key=_STRICTNESS.index)
    if any(p not in known for p in patients.values()):
        # A history may have been put back from an older backup, or have lost a damaged line.
        for patient, part in project.parts_of_newest_dataset().items():
            found[patient] = max(part, found.get(patient, part), key=_STRICTNESS.index)
    return found


def stain_of(project: Project, image: ImageAnnotations) -> str:
    """The stain of an image as its metadata says; empty where nothing does."""
    return image.entry.metadata.get(project.settings.split.stain_key, "").strip()


def areas_of(image: ImageAnnotations) -> Areas:
    """Where an image may be learnt from."""
    return Areas(
        searched=image.searched,
        ignored=union_of(image.roles.ignored),
        pending=union_of(image.roles.pending),
        cleared=union_of(image.roles.hard_negatives),
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
                stain=stain_of(project, image),
            )
        )
    if not jobs:
        lines = "\n".join(f"  image {name!r}: {why}" for name, why in failed)
        msg = f"not one slide can be cut:\n{lines}"
        raise InputError(msg)
    return jobs, failed
