"""Cutting the tiles of one slide: pixels and label files, written under a dataset folder."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from ..errors import GlombridgeError, MachineError
from ..filenames import safe_name
from ..slides.reader import RgbArray, Slide
from ..slides.strips import Region, read_regions
from ..slides.tissue import tissue_mask
from .grid import Grid, TileBox, TileSpec, whole_object_check
from .jobs import DatasetSettings, SlideJob
from .labels import label_tiles, labelled_objects
from .selection import ChosenTile, choose_tiles
from .yolo import yolo_lines

_PENDING_TILES = 8  # bounds memory where the disk is slower than the slide
_SLIDE_SUFFIX = re.compile(r"(?i)\.(svs|tiff?|ndpi|mrxs|scn|bif|vms|vmu|svslide|dcm|czi|isyntax)$")


@dataclass(frozen=True)
class SlideReport:
    """What was cut from one slide.

    Attributes:
        job: the image.
        prefix: beginning of its file names.
        tiles: number of tiles by kind.
        labels: number of labels by YOLO class index.
        objects: number of objects used, by YOLO class index.
        slivers: number of object views painted out because a border cut them.
        not_whole: ids of objects that are whole in no tile.
    """

    job: SlideJob
    prefix: str
    tiles: Mapping[str, int]
    labels: Mapping[int, int]
    objects: Mapping[int, int]
    slivers: int
    not_whole: tuple[str, ...]


def cut_slide(
    job: SlideJob,
    settings: DatasetSettings,
    spec: TileSpec,
    prefix: str,
    folder: Path,
    pool: ThreadPoolExecutor,
    on_tile: Callable[[int, int], None],
) -> SlideReport:
    """Write the chosen tiles of one slide. On any error its files are removed again.

    Args:
        job: the image.
        settings: of the dataset.
        spec: the tiles, its overlap resolved.
        prefix: beginning of the file names.
        folder: the dataset, with ``images/PART`` and ``labels/PART`` in it.
        pool: encodes and writes while this thread reads.
        on_tile: called with the number of tiles handed on and the number of all.

    Raises:
        InputError: the slide cannot be read.
        MachineError: a file cannot be written.
    """
    grid = Grid.of(job.frame, spec)
    used = labelled_objects(job.objects, settings.class_map, job.areas)
    written: list[Path] = []
    with Slide(job.slide_path, job.frame) as slide:
        tissue = tissue_mask(slide)
        chosen = choose_tiles(
            label_tiles(grid, job.objects, settings.class_map, areas=job.areas, rule=settings.rule),
            tissue.shares(grid.boxes_px()),
            [o.outline.bounds for o in job.hard_negatives if o.outline is not None],
            background_ratio=settings.background_ratio,
            background_empty_slide=settings.background_empty_slide,
            seed=settings.seed,
            slide_key=f"{job.entry_id} {job.image_name}",
        )
        regions = [_region(c.labels.tile) for c in chosen]
        pending: deque[Future[None]] = deque()
        try:
            for done, (index, rgb) in enumerate(read_regions(slide, regions, mpp=spec.mpp), 1):
                tile = chosen[index]
                stem = f"{prefix}{_position(tile.labels.tile, job, spec)}"
                image = folder / "images" / job.part / f"{stem}.jpg"
                label = folder / "labels" / job.part / f"{stem}.txt"
                written += [image, label]
                pending.append(
                    pool.submit(
                        _write_tile, image, label, rgb, tile, tissue.background_rgb, settings
                    )
                )
                if len(pending) > _PENDING_TILES:
                    pending.popleft().result()
                on_tile(done, len(chosen))
            while pending:
                pending.popleft().result()
        except GlombridgeError:
            for future in pending:
                future.cancel()
                if not future.cancelled():
                    future.exception()  # wait, or it would write after the removal
            for path in written:
                path.unlink(missing_ok=True)
            raise
    bounds = [o.outline.bounds for o in used if o.outline is not None]
    return SlideReport(
        job,
        prefix,
        Counter(c.kind for c in chosen),
        Counter(box.class_index for c in chosen for box in c.labels.boxes),
        Counter(settings.class_map.index_of[str(o.path_class)] for o in used),
        sum(len(c.labels.slivers) for c in chosen),
        tuple(str(used[i].id) for i in whole_object_check(grid, bounds)),
    )


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
        "not published; free some space or choose another folder with --out."
    )
    return MachineError(msg)


def _write_tile(
    image: Path,
    label: Path,
    rgb: RgbArray,
    tile: ChosenTile,
    background_rgb: tuple[int, int, int],
    settings: DatasetSettings,
) -> None:
    painted = paint_out(rgb, tile.labels.painted, background_rgb)
    bgr = cv2.cvtColor(painted, cv2.COLOR_RGB2BGR)
    is_done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])
    if not is_done:
        msg = f"OpenCV could not encode tile {image.name!r}"
        raise MachineError(msg)
    write_bytes(image, data.tobytes())
    write_bytes(label, yolo_lines(tile.labels).encode())


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
