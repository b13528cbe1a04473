"""YOLO datasets on disk: complete or not there at all, and the same to the byte every time."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from ..errors import InputError, ProtectedError
from ..slides.reader import fingerprint
from .cutting import SlideReport, cut_slide, file_prefixes, machine_error, write_bytes
from .grid import TileSpec, resolve_overlap
from .jobs import DatasetSettings, SlideJob
from .labels import labelled_objects
from .manifest import FORMAT, data_yaml_text, manifest_text, part_objects, part_tiles
from .split import PARTS, SplitItem, check_no_leaks

__all__ = ["DatasetResult", "DatasetSettings", "SlideJob", "TileProgress", "write_dataset"]

_MOST_WORKERS = 4  # one reader feeds no more encoders than this


@dataclass(frozen=True)
class TileProgress:
    """Where the writing stands; given after each tile.

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
    """

    folder: Path
    data_yaml: Path
    manifest: Path
    tiles: Mapping[str, int]
    objects: Mapping[str, Mapping[str, int]]
    spec: TileSpec
    not_whole: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    failed: tuple[tuple[str, str], ...] = ()


def write_dataset(
    jobs: Sequence[SlideJob],
    folder: Path,
    settings: DatasetSettings,
    *,
    progress: Callable[[TileProgress], None] | None = None,
) -> DatasetResult:
    """Cut slides into an ultralytics dataset.

    The files are written beside ``folder`` and renamed into place when all are there; an older
    dataset of glombridge in that place is replaced as a whole.

    Raises:
        InputError: no job, a class without any example, or not one slide could be read.
        ProtectedError: a patient or slide on two sides, or ``folder`` holds something else.
        MachineError: disk full, no permission. Nothing is left behind.
    """
    _check_target(folder)
    _check_jobs(jobs)
    fingerprints, failures = _readable(jobs, settings)
    ready = [job for job in jobs if job.entry_id in fingerprints]
    _check_anything_left(ready, failures)
    check_no_leaks(
        SplitItem(job.image_name, job.patient, fingerprints[job.entry_id], job.part)
        for job in ready
    )
    _check_examples(ready, settings)
    spec = resolve_overlap(settings.spec, [(job.frame, _bounds(job, settings)) for job in ready])
    prefixes = file_prefixes(ready)
    reports: list[SlideReport] = []
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    with _published_when_complete(folder) as draft, ThreadPoolExecutor(workers) as pool:
        for number, (job, prefix) in enumerate(zip(ready, prefixes, strict=True), 1):

            def on_tile(tile: int, tiles: int, name: str = job.image_name, n: int = number) -> None:
                if progress is not None:
                    progress(TileProgress(name, n, len(ready), tile, tiles))

            try:
                reports.append(cut_slide(job, settings, spec, prefix, draft, pool, on_tile))
            except InputError as error:
                failures.append((job.image_name, str(error)))
        _check_anything_left(reports, failures)
        text = manifest_text(reports, fingerprints, failures, settings, spec)
        write_bytes(draft / "manifest.json", text.encode())
        write_bytes(draft / "data.yaml", data_yaml_text(settings.class_map).encode())
    return DatasetResult(
        folder,
        folder / "data.yaml",
        folder / "manifest.json",
        part_tiles(reports),
        part_objects(reports, settings.class_map),
        spec,
        {
            f"{report.job.image_name} [{report.job.entry_id}]": report.not_whole
            for report in reports
            if report.not_whole
        },
        tuple(failures),
    )


@contextmanager
def _published_when_complete(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` that takes its place on success and vanishes on failure."""
    draft = folder.parent / f".{folder.name}.{uuid4().hex[:8]}.partial"
    try:
        try:
            for kind in ("images", "labels"):
                for part in PARTS:
                    (draft / kind / part).mkdir(parents=True)
        except OSError as error:
            raise machine_error(draft, error) from error
        yield draft
        _publish(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _publish(draft: Path, folder: Path) -> None:
    old = folder.parent / f".{folder.name}.{uuid4().hex[:8]}.old"
    try:
        # A folder with files in it cannot be replaced in one step on any platform: the old one
        # steps aside first, and comes back if the new one cannot take its place.
        if folder.exists():
            folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise machine_error(folder, error) from error
    shutil.rmtree(old, ignore_errors=True)


def _check_target(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        is_ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    except (OSError, ValueError):
        is_ours = False
    if not is_ours:
        msg = (
            f"{folder} is there already and is not a dataset that glombridge wrote; it is left as "
            "it is. Choose another folder with --out."
        )
        raise ProtectedError(msg)


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


def _readable(
    jobs: Sequence[SlideJob], settings: DatasetSettings
) -> tuple[dict[int, str], list[tuple[str, str]]]:
    fingerprints: dict[int, str] = {}
    failures: list[tuple[str, str]] = []
    for job in jobs:
        try:
            job.frame.target_scale(settings.spec.mpp)
            fingerprints[job.entry_id] = fingerprint(job.slide_path)
        except InputError as error:
            failures.append((job.image_name, str(error)))
    return fingerprints, failures


def _check_anything_left(left: Sequence[object], failures: Sequence[tuple[str, str]]) -> None:
    if not left:
        reasons = "\n".join(f"- {image}: {reason}" for image, reason in failures)
        msg = f"not one slide could be read:\n{reasons}"
        raise InputError(msg)


def _check_examples(jobs: Sequence[SlideJob], settings: DatasetSettings) -> None:
    class_map = settings.class_map
    found = {
        class_map.index(o.path_class)
        for job in jobs
        for o in labelled_objects(job.objects, class_map, job.areas)
    }
    missing = [name for i, name in enumerate(class_map.names) if i not in found]
    if missing:
        seen = sorted({str(o.path_class) for job in jobs for o in job.objects if o.path_class})
        msg = (
            f"no image has an object of class {', '.join(map(repr, missing))} in a searched area. "
            f"Classes that were found: {', '.join(map(repr, seen)) or 'none'}. Mark some, or "
            "change the classes in the settings."
        )
        raise InputError(msg)


def _bounds(job: SlideJob, settings: DatasetSettings) -> list[tuple[float, float, float, float]]:
    used = labelled_objects(job.objects, settings.class_map, job.areas)
    return [o.outline.bounds for o in used if o.outline is not None]
