"""YOLO datasets on disk: complete or not there at all, and the same to the byte every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError
from ..filenames import shown_line
from .crew import Hands, Threads
from .cutting import SlideTask, file_prefixes
from .drafts import claim_draft, is_dataset, readable_records
from .grid import TileSpec, check_tile_count, resolve_overlap
from .jobs import DatasetSettings, SlideJob
from .labels import is_only_a_box, labelled_objects
from .leaks import LeakCheck, LeakItem, SlideLook, check_leaks
from .manifest import (
    annotations_hash,
    data_yaml_text,
    manifest_text,
    part_objects,
    part_tiles,
    slide_key,
)
from .records import SlideRecord, tiles_csv

__all__ = ["DatasetResult", "DatasetSettings", "SlideJob", "TileProgress", "write_dataset"]

WITHHELD = "it could not be read"
"""Stands for the reason in what is handed out, as the reason names a file."""


@dataclass(frozen=True)
class TileProgress:
    """Where the writing stands; given after each tile, and once for a slide that has none to cut.

    Attributes:
        image_name: the slide in work.
        slide, slides: its place, from 1, and how many there are.
        tile, tiles: tiles cut of this slide, and how many it gets.
    """

    image_name: str
    slide: int
    slides: int
    tile: int
    tiles: int


@dataclass(frozen=True)
class DatasetResult:
    """What was written.

    Attributes:
        folder: the dataset.
        data_yaml, manifest: the two files that describe it.
        tiles: number of tiles per part.
        objects: number of objects (not of views) per part and class name.
        spec: the tiles, with the overlap that was used.
        not_whole: ids of objects that are whole in no tile, by image name, entry id in brackets.
        failed: image name and reason of each slide that could not be read; it has no tiles.
        cut: number of slides that were cut; the tiles of the others were there already.
        leaks: what comparing patients and slides found.
        objects_used: number of objects whose wholeness was checked.
    """

    folder: Path
    data_yaml: Path
    manifest: Path
    tiles: Mapping[str, int]
    objects: Mapping[str, Mapping[str, int]]
    spec: TileSpec
    not_whole: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    failed: tuple[tuple[str, str], ...] = ()
    cut: int = 0
    leaks: LeakCheck | None = None
    objects_used: int = 0


def write_dataset(
    jobs: Sequence[SlideJob],
    folder: Path,
    settings: DatasetSettings,
    *,
    previous: Path | None = None,
    reuse: bool = True,
    workers: int | None = None,
    hands: Hands | None = None,
    previews: bool = False,
    coded: Callable[[str], str] | None = None,
    progress: Callable[[TileProgress], None] | None = None,
) -> DatasetResult:
    """Cut slides into an ultralytics dataset.

    The files are written into a folder beside ``folder`` that takes its place, in one step, when
    all are there. What an interrupted call has finished, slide by slide, the next one for the same
    place goes on from. Slides of ``previous``, or of the dataset that is replaced, whose pixels,
    annotations and settings have not changed are not cut again: their files are linked, or copied
    where the disk cannot link. Whatever was there before, and whatever the number of workers, the
    bytes are those of a dataset cut from nothing.

    Args:
        jobs: the images.
        folder: of the dataset.
        settings: how to cut and choose.
        previous: an older dataset, left as it is; given back unchanged where nothing has changed.
        reuse: ``False`` cuts every slide, whatever is there already.
        workers: threads; as many as there are cores by default.
        hands: who does the work on slides, instead of these threads.
        previews: write a picture per slide of the grid, the tissue and the labels.
        coded: gives what stands for a slide's fingerprint, in a dataset whose jobs carry codes for
            names. Why a slide could not be read is left out of its manifest, too: it holds a path.
        progress: told about each tile.

    Raises:
        InputError: no job, a class without any example, or not one slide could be read.
        ProtectedError: a patient or slide on two sides, ``folder`` holds something else, or another
            process is writing it.
        MachineError: disk full, no permission. ``folder`` is as it was; the next call goes on.
        UsageError: fewer than one worker.
    """
    hands = hands or Threads(workers)
    _check_jobs(jobs)
    with claim_draft(folder) as draft:
        older = [d for d in (folder, previous) if reuse and d is not None and is_dataset(d)]
        names = set(settings.class_map.names)
        known = {
            r.key: (r, d)
            for d in reversed(older)
            for r in readable_records(d)
            if names.issuperset(r.objects)  # their names are no part of the usual key
        }
        looks, failures = _looks(jobs, settings, [r for r, _ in known.values()], hands)
        if coded is not None:
            looks = {i: replace(k, fingerprint=coded(k.fingerprint)) for i, k in looks.items()}
        ready = [job for job in jobs if job.entry_id in looks]
        _check_anything_left(ready, failures)
        leaks = check_leaks(
            [LeakItem(j.image_name, j.patient, j.part, looks[j.entry_id]) for j in ready],
            patients_from=settings.patients_from,
        )
        _check_examples(ready, settings)
        spec = resolve_overlap(settings.spec, [(j.frame, _bounds(j, settings)) for j in ready])
        tasks = _tasks(ready, looks, settings, spec)
        kept = draft.keep({task.key for task in tasks} if reuse else set())
        for task in tasks:
            if task.key not in kept and task.key in known:
                record, source = known[task.key]
                if record.is_complete(source):
                    draft.take_over(record, source)
                    kept[task.key] = record
        tell = _Teller(tasks, progress)
        for task in tasks:
            if task.key in kept:
                tell(task, len(kept[task.key].tiles), len(kept[task.key].tiles))
        cut, broken = hands.cut(
            [task for task in tasks if task.key not in kept], settings, draft.folder, tell
        )
        by_key = {r.key: r for r in (*kept.values(), *cut)}
        records = [by_key[task.key] for task in tasks if task.key in by_key]
        failures += [(task.job.image_name, why) for task, why in broken]
        order = {job.image_name: k for k, job in enumerate(jobs)}
        failures.sort(key=lambda failure: order[failure[0]])
        _check_anything_left(records, failures)
        if previews:
            for task in tasks:
                if task.key in by_key:
                    draft.add_preview(task, settings)
        told = failures if coded is None else [(image, WITHHELD) for image, _ in failures]
        text = manifest_text(records, told, settings, spec, leaks).encode()
        draft.write("manifest.json", text)
        draft.write("data.yaml", data_yaml_text(settings.class_map).encode())
        draft.write("tiles.csv", tiles_csv(records))
        published = draft.publish(folder, older)
    return DatasetResult(
        published,
        published / "data.yaml",
        published / "manifest.json",
        part_tiles(records),
        part_objects(records, settings.class_map),
        spec,
        {
            f"{record.image_name} [{record.entry_id}]": record.not_whole
            for record in records
            if record.not_whole
        },
        tuple(failures),
        len(cut),
        leaks,
        sum(sum(r.objects.values()) for r in records),
    )


class _Teller:
    """Turns what threads say about their slides into one stream of progress."""

    def __init__(
        self, tasks: Sequence[SlideTask], progress: Callable[[TileProgress], None] | None
    ) -> None:
        self._place = {task.key: k for k, task in enumerate(tasks, 1)}
        self._progress = progress

    def __call__(self, task: SlideTask, done: int, tiles: int) -> None:
        if self._progress is not None:
            place = self._place[task.key]
            name = task.job.image_name
            self._progress(TileProgress(name, place, len(self._place), done, tiles))


def _check_jobs(jobs: Sequence[SlideJob]) -> None:
    if not jobs:
        msg = (
            "there is no image to cut tiles from: mark objects in QuPath, and say which images "
            "have been searched completely"
        )
        raise InputError(msg)
    twice = [i for i, n in Counter(job.entry_id for job in jobs).items() if n > 1]
    if twice:
        msg = f"image entries given twice: {', '.join(map(str, twice))}"
        raise InputError(msg)


def _looks(
    jobs: Sequence[SlideJob],
    settings: DatasetSettings,
    records: Sequence[SlideRecord],
    hands: Hands,
) -> tuple[dict[int, SlideLook], list[tuple[str, str]]]:
    known = {record.look.fingerprint: record.look for record in records}
    failures: list[tuple[str, str]] = []
    usable = []
    for job in jobs:
        try:
            check_tile_count(job.frame, settings.spec)
            usable.append(job)
        except InputError as error:
            failures.append((job.image_name, str(error)))
    looks: dict[int, SlideLook] = {}
    for job, look in zip(usable, hands.look(usable, known), strict=True):
        if isinstance(look, InputError):
            failures.append((job.image_name, str(look)))
        else:
            looks[job.entry_id] = look
    return looks, failures


def _tasks(
    jobs: Sequence[SlideJob],
    looks: Mapping[int, SlideLook],
    settings: DatasetSettings,
    spec: TileSpec,
) -> list[SlideTask]:
    tasks = []
    for job, prefix in zip(jobs, file_prefixes(jobs), strict=True):
        look = looks[job.entry_id]
        key = slide_key(job, look.fingerprint, prefix, settings, spec)
        tasks.append(SlideTask(job, spec, prefix, key, look, annotations_hash(job)))
    return tasks


def _check_anything_left(left: Sequence[object], failures: Sequence[tuple[str, str]]) -> None:
    if not left:
        reasons = "\n".join(f"- {shown_line(image)}: {reason}" for image, reason in failures)
        msg = f"not one slide could be read:\n{reasons}"
        raise InputError(msg)


def _check_examples(jobs: Sequence[SlideJob], settings: DatasetSettings) -> None:
    class_map = settings.class_map
    found = {
        class_map.index(o.path_class)
        for job in jobs
        for o in labelled_objects(job.objects, class_map, job.areas, task=settings.task)
    }
    missing = [name for i, name in enumerate(class_map.names) if i not in found]
    if missing:
        there = sorted({str(o.path_class) for job in jobs for o in job.objects if o.path_class})
        seen = ", ".join(map(repr, there)) or "none"
        only_boxes = sum(is_only_a_box(o) for job in jobs for o in job.objects)
        if settings.task == "segment" and only_boxes:
            seen += f"; {only_boxes} of the objects are only boxes, which train no segmentation"
        msg = (
            f"no image has an object of class {', '.join(map(repr, missing))} in a searched area. "
            f"Classes that were found: {seen}. Mark some, or change the classes in the settings."
        )
        raise InputError(msg)


def _bounds(job: SlideJob, settings: DatasetSettings) -> list[tuple[float, float, float, float]]:
    used = labelled_objects(job.objects, settings.class_map, job.areas, task=settings.task)
    return [o.outline.bounds for o in used if o.outline is not None]
