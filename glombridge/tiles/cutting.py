"""Cutting the tiles of one slide: pixels and label files, written under a dataset folder."""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from ..errors import MachineError
from ..filenames import safe_name
from ..slides.reader import RgbArray, Slide
from ..slides.strips import Region, read_regions, split_regions
from ..slides.tissue import TissueMask, tissue_mask
from .grid import Grid, TileBox, TileSpec, check_tile_count, whole_object_check
from .jobs import DatasetSettings, SlideJob
from .labels import label_tiles, labelled_objects
from .leaks import SlideLook
from .records import SlideRecord, TileEntry
from .selection import ChosenTile, choose_tiles
from .yolo import yolo_lines

_SLIDE_SUFFIX = re.compile(r"(?i)\.(svs|tiff?|ndpi|mrxs|scn|bif|vms|vmu|svslide|dcm|czi|isyntax)$")


@dataclass(frozen=True)
class SlideTask:
    """One slide to cut: the job, and what was decided about all of them.

    Attributes:
        job: the image.
        spec: the tiles, its overlap resolved.
        prefix: beginning of the file names.
        key: hash of everything that decides the tiles.
        look: tells the slide from others.
        annotations_sha256: of what humans marked.
    """

    job: SlideJob
    spec: TileSpec
    prefix: str
    key: str
    look: SlideLook
    annotations_sha256: str


@dataclass(frozen=True)
class SlidePlan:
    """Which tiles of a slide are cut, and what was looked at to decide it."""

    grid: Grid
    chosen: list[ChosenTile]
    tissue: TissueMask


class StoppedError(Exception):
    """Cutting was given up because something else failed."""


class SlideCut:
    """The cutting of one slide, in parts that threads can share.

    Args:
        task: what to cut.
        settings: of the dataset.
        folder: the dataset, with ``images/PART`` and ``labels/PART`` in it.
        stop: set to give up between two tiles.
        on_tile: called with the number of tiles done and of all, by whichever thread did it.
    """

    def __init__(
        self,
        task: SlideTask,
        settings: DatasetSettings,
        folder: Path,
        stop: threading.Event,
        on_tile: Callable[[int, int], None],
    ) -> None:
        self.task = task
        self._settings = settings
        self._folder = folder
        self._stop = stop
        self._on_tile = on_tile
        self._counting = threading.Lock()
        self._done = 0
        self._slide: Slide | None = None
        self._plan: SlidePlan | None = None
        self.has_failed = False

    def plan(self, pieces: int, max_bytes: int) -> list[list[int]]:
        """Choose the tiles, and share them out.

        Args:
            pieces: parts wanted.
            max_bytes: bound on the decoded pixels that cutting one part may keep.

        Returns:
            Places in the list of chosen tiles, per part.

        Raises:
            InputError: the slide cannot be read.
        """
        job, spec = self.task.job, self.task.spec
        self._slide = Slide(job.slide_path, job.frame)
        self._plan = plan_slide(self._slide, job, spec, self._settings)
        self._max_bytes = max_bytes
        regions = [_region(c.labels.tile) for c in self._plan.chosen]
        if not regions:
            self._on_tile(0, 0)
        return split_regions(self._slide, regions, mpp=spec.mpp, pieces=pieces, max_bytes=max_bytes)

    def cut(self, part: Sequence[int]) -> dict[int, TileEntry]:
        """Write the tiles of one part.

        Raises:
            InputError: the slide cannot be read there.
            MachineError: a file cannot be written.
            StoppedError: it was given up.
        """
        slide, plan, spec = self._slide, self._plan, self.task.spec
        if slide is None or plan is None:
            msg = "plan() comes first"
            raise RuntimeError(msg)
        regions = [_region(plan.chosen[k].labels.tile) for k in part]
        entries: dict[int, TileEntry] = {}
        for place, rgb in read_regions(slide, regions, mpp=spec.mpp, max_bytes=self._max_bytes):
            if self._stop.is_set() or self.has_failed:
                raise StoppedError
            k = part[place]
            entries[k] = self._write(plan.chosen[k], rgb, plan.tissue.background_rgb)
            with self._counting:
                self._done += 1
                self._on_tile(self._done, len(plan.chosen))
        return entries

    def record(self, entries: dict[int, TileEntry]) -> SlideRecord:
        """What was cut, once every part is."""
        plan, job, task = self._plan, self.task.job, self.task
        if plan is None:
            msg = "plan() comes first"
            raise RuntimeError(msg)
        class_map = self._settings.class_map
        used = labelled_objects(job.objects, class_map, job.areas, task=self._settings.task)
        bounds = [o.outline.bounds for o in used if o.outline is not None]
        objects = Counter(class_map.names[class_map.index_of[str(o.path_class)]] for o in used)
        labels = Counter(
            class_map.names[b.class_index] for c in plan.chosen for b in c.labels.boxes
        )
        notes = list(job.frame.notes)
        if self._slide is not None and self._slide.broken_levels:
            levels = ", ".join(map(str, self._slide.broken_levels))
            notes.append(f"pyramid level {levels} is not the image made smaller and was not read")
        return SlideRecord(
            task.key,
            job.image_name,
            job.entry_id,
            job.patient,
            job.part,
            job.stain,
            task.prefix,
            task.look,
            task.annotations_sha256,
            (job.frame.width_px, job.frame.height_px),
            (job.frame.mpp_x, job.frame.mpp_y),
            tuple(notes),
            len(plan.grid),
            dict(objects),
            dict(labels),
            sum(len(c.labels.slivers) for c in plan.chosen),
            tuple(str(used[i].id) for i in whole_object_check(plan.grid, bounds)),
            tuple(entries[k] for k in range(len(plan.chosen))),
        )

    def discard(self) -> None:
        """Remove what was written of this slide."""
        for kind in ("images", "labels"):
            for path in (self._folder / kind / self.task.job.part).iterdir():
                if belongs_to(path.name, self.task.prefix):
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the slide."""
        if self._slide is not None:
            self._slide.close()

    def _write(
        self, tile: ChosenTile, rgb: RgbArray, background_rgb: tuple[int, int, int]
    ) -> TileEntry:
        labels, box = tile.labels, tile.labels.tile
        painted = paint_out(rgb, labels.painted, background_rgb)
        image = bytes(imagecodecs.jpeg8_encode(painted, level=self._settings.jpeg_quality))
        text = yolo_lines(labels, self._settings.task).encode()
        entry = TileEntry(
            f"{self.task.prefix}{_position(box, self.task.job, self.task.spec)}",
            tile.kind,
            box.index,
            box.column,
            box.row,
            box.x_target_px,
            box.y_target_px,
            box.width_target_px,
            box.height_target_px,
            box.x_px,
            box.y_px,
            box.width_px,
            box.height_px,
            len(labels.boxes),
            round(1 - labels.usable_share, 6),
            len(image),
            len(text),
            hashlib.sha256(image).hexdigest(),
            hashlib.sha256(text).hexdigest(),
        )
        image_path, label_path = entry.files(self._folder, self.task.job.part)
        write_bytes(image_path, image)
        write_bytes(label_path, text)
        return entry


def plan_slide(slide: Slide, job: SlideJob, spec: TileSpec, settings: DatasetSettings) -> SlidePlan:
    """Label every tile of a slide and choose those that go into the dataset.

    Raises:
        InputError: the slide cannot be read, or would have too many tiles.
    """
    check_tile_count(job.frame, spec)
    grid = Grid.of(job.frame, spec)
    tissue = tissue_mask(slide)
    labels = label_tiles(
        grid,
        job.objects,
        settings.class_map,
        areas=job.areas,
        rule=settings.rule,
        task=settings.task,
    )
    chosen = choose_tiles(
        labels,
        tissue.shares(grid.boxes_px()),
        [o.outline.bounds for o in job.hard_negatives if o.outline is not None],
        background_ratio=settings.background_ratio,
        background_empty_slide=settings.background_empty_slide,
        seed=settings.seed,
        slide_key=f"{job.entry_id} {job.image_name}",
    )
    return SlidePlan(grid, chosen, tissue)


def belongs_to(file_name: str, prefix: str) -> bool:
    """Whether a tile's file is of the slide with this prefix."""
    return file_name.rpartition("__x")[0] == prefix


def file_prefixes(jobs: Sequence[SlideJob]) -> list[str]:
    """Beginning of the file names of each job: its image's name made safe, and unique.

    Images that share a name (also where only case differs, which Windows does not see) get their
    entry id appended.
    """
    names = [_prefix(job.image_name) for job in jobs]
    count = Counter(name.casefold() for name in names)
    unique = [
        name if count[name.casefold()] == 1 else f"{name}-{job.entry_id}"
        for name, job in zip(names, jobs, strict=True)
    ]
    if len({name.casefold() for name in unique}) == len(unique):
        return unique
    # An appended id made the name of yet another image: number them all.
    return [f"{job.entry_id}-{name}" for name, job in zip(names, jobs, strict=True)]


def paint_out(
    rgb: RgbArray, area: BaseGeometry | None, color_rgb: tuple[int, int, int]
) -> RgbArray:
    """A tile with an area of target px filled with one colour."""
    if area is None:
        return rgb
    cover = np.zeros(rgb.shape[:2], np.uint8)
    for polygon in shapely.get_parts(area):
        if isinstance(polygon, Polygon) and not polygon.is_empty:
            rings = [polygon.exterior, *polygon.interiors]
            # Several rings in one call are filled by the even-odd rule, so holes stay open.
            cv2.fillPoly(
                cover, [np.round(np.asarray(ring.coords)).astype(np.int32) for ring in rings], 1
            )
    painted: RgbArray = rgb.copy()
    painted[cover == 1] = color_rgb
    return painted


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file.

    Raises:
        MachineError: disk full, no permission.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise machine_error(path, error) from error


def machine_error(path: Path, error: OSError) -> MachineError:
    """The same failure, in words and with its way out."""
    msg = (
        f"cannot write {path.name!r} in {path.parent}: {error.strerror or error}. The dataset was "
        "not published; free some space and run it again, which goes on where it stopped, or choose "
        "another folder with --out."
    )
    return MachineError(msg)


def _region(tile: TileBox) -> Region:
    return Region(tile.x_px, tile.y_px, tile.width_target_px, tile.height_target_px)


def _position(tile: TileBox, job: SlideJob, spec: TileSpec) -> str:
    mpp = job.frame.mpp_x if spec.mpp is None else spec.mpp
    # Where a target px is smaller than a QuPath px, whole QuPath px could name two tiles alike.
    is_finer = tile.width_px < tile.width_target_px
    x, y = (
        f"{value:.2f}" if is_finer else str(math.floor(value + 0.5))
        for value in (tile.x_px, tile.y_px)
    )
    return f"__x{x}_y{y}_mpp{'unknown' if mpp is None else f'{mpp:.4g}'}"


def _prefix(image_name: str) -> str:
    stem = _SLIDE_SUFFIX.sub("", image_name)
    safe = safe_name(stem)
    if safe == stem:
        return safe
    # Two names may become one when made safe; a few characters of the real one keep them apart.
    return f"{safe}-{hashlib.sha256(image_name.encode()).hexdigest()[:6]}"
