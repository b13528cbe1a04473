"""One slide through a detector: tissue tiles, batches, boxes in slide coordinates."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..errors import InputError
from ..objects import box_polygons
from ..progress import Task
from ..slides.reader import Slide
from ..slides.strips import Region
from ..slides.tissue import tissue_mask
from ..tiles.grid import Grid, TileSpec, check_tile_count
from .boxes import Boxes, Floats, Ints
from .clock import StageClock
from .feed import MakeBatch, TileFeed
from .outlines import moved, within
from .raw import SlideDetections
from .views import cut_sides

__all__ = [
    "SlideDetections",
    "SlidePlan",
    "default_workers",
    "detect_slide",
    "plan_slide",
    "run_plan",
]

MIN_TISSUE_SHARE = 0.02
"""Tiles with less tissue hold no object: a glomerulus alone fills more."""

MOST_WORKERS = 8
"""Threads that decode, by default: what a fast GPU can take from OpenSlide."""

Detect = Callable[[NDArray[np.uint8]], Sequence[Any]]
"""A batch of tiles (batch, height, width, 3) to what is seen on each, as :class:`.detector.Seen`."""


@dataclass(frozen=True)
class SlidePlan:
    """What of a slide will be shown to the model, and the tiles already being decoded for it.

    Attributes:
        shown: positions in the grid of the tiles to show.
        tissue_is_known: whether tissue was looked for; where the overview is damaged, it cannot be,
            and every tile is shown.
    """

    grid: Grid
    shown: Ints
    feed: TileFeed
    region: BaseGeometry | None = None
    tissue_is_known: bool = True

    @property
    def boxes_px(self) -> Floats:
        """(N, 4) the tiles to show, QuPath pixels."""
        return self.grid.boxes_px()[self.shown]


def default_workers() -> int:
    """Half the cores, at most :data:`MOST_WORKERS`: on a CPU the model needs the others."""
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) // 2))


def plan_slide(
    slide: Slide,
    spec: TileSpec,
    *,
    batch: int,
    workers: int | None = None,
    region: BaseGeometry | None = None,
    make_batch: MakeBatch | None = None,
    clock: StageClock | None = None,
) -> SlidePlan:
    """Find the tiles to show, and begin to decode them.

    Args:
        slide: open slide, in its QuPath frame. It may be closed afterwards.
        spec: tiles as the model was trained on.
        batch: tiles shown at once.
        workers: threads that decode; :func:`default_workers` if ``None``.
        region: only tiles that reach into this area, QuPath pixels; all by default.
        make_batch: allocates a batch.
        clock: told what takes how long.

    Raises:
        InputError: no pixel size, or too many tiles.
    """
    check_tile_count(slide.frame, spec)
    grid = Grid.of(slide.frame, spec)
    boxes_px = grid.boxes_px()
    wanted = np.ones(len(grid), np.bool_)
    try:
        wanted &= tissue_mask(slide).shares(boxes_px) >= MIN_TISSUE_SHARE
        tissue_is_known = True
    except InputError:
        # The overview may be damaged where the tiles are not.
        tissue_is_known = False
    if region is not None:
        shapely.prepare(region)
        wanted &= shapely.intersects(region, box_polygons(boxes_px))
    shown = np.flatnonzero(wanted)
    regions = [
        Region(float(boxes_px[i, 0]), float(boxes_px[i, 1]), spec.width_px, spec.height_px)
        for i in shown
    ]
    feed = TileFeed(
        slide.path,
        slide.frame,
        regions,
        mpp=spec.mpp,
        batch=batch,
        workers=workers or default_workers(),
        make_batch=make_batch,
        clock=clock,
    )
    return SlidePlan(grid, shown, feed, region, tissue_is_known)


def run_plan(
    plan: SlidePlan,
    detector: Detect,
    *,
    clock: StageClock | None = None,
    on_tiles: Callable[[int, int], None] | None = None,
) -> SlideDetections:
    """Show the tiles of a plan to a detector.

    The last batch of a job is filled up with white tiles, so that a tile's result does not depend
    on how many neighbours it had.

    Args:
        plan: from :func:`plan_slide`; it is used up.
        detector: a batch to what is seen on each tile.
        clock: told what takes how long.
        on_tiles: called after each batch with its number of tiles and of boxes seen.

    Raises:
        InputError: nothing of the slide can be read.
        MachineError: out of memory.
    """
    clock = clock or StageClock()
    boxes_px = plan.boxes_px
    parts: dict[int, tuple[Any, ...]] = {}
    with plan.feed as feed:
        for batch in feed:
            with clock.measure("model"):
                seen = list(detector(batch.pixels))
            for place, one in zip(batch.places, seen, strict=False):
                parts[place] = tuple(one)
            clock.tiles += len(batch.places)
            if on_tiles is not None:
                found = sum(len(parts[place][1]) for place in batch.places)
                on_tiles(len(batch.places), found)
        lost = [place for place, _ in feed.unreadable]
    was_shown = np.ones(len(boxes_px), np.bool_)
    was_shown[lost] = False
    scanned = boxes_px[was_shown]
    number = np.cumsum(was_shown) - 1
    boxes = _placed(plan, scanned, {int(number[place]): seen for place, seen in parts.items()})
    frame = plan.grid.frame
    return SlideDetections(
        boxes,
        scanned,
        len(plan.grid),
        frame.width_px,
        frame.height_px,
        boxes_px[~was_shown],
        plan.region,
    )


def detect_slide(
    slide: Slide,
    spec: TileSpec,
    detector: Detect,
    *,
    batch: int = 16,
    workers: int | None = None,
    region: BaseGeometry | None = None,
    task: Task | None = None,
) -> SlideDetections:
    """Show the tissue of a slide to a detector.

    Args:
        slide: open slide, in its QuPath frame.
        spec: tiles as the model was trained on.
        detector: a batch to what is seen on each tile.
        batch: tiles shown at once.
        workers: threads that decode; :func:`default_workers` if ``None``.
        region: only here, QuPath pixels; everywhere by default.
        task: told about each batch, as a share of the slide.

    Raises:
        InputError: no pixel size, or nothing of the slide can be read.
        MachineError: out of memory.
    """
    plan = plan_slide(slide, spec, batch=batch, workers=workers, region=region)

    def on_tiles(n: int, _: int) -> None:
        if task is not None:
            task.advance(n / len(plan.shown), note=slide.frame.image_name)

    found = run_plan(plan, detector, on_tiles=on_tiles)
    if task is not None and not len(plan.shown):
        task.advance(1, note=f"{slide.frame.image_name}: no tissue")
    return found


def _placed(plan: SlidePlan, scanned: Floats, seen: dict[int, tuple[Any, ...]]) -> Boxes:
    """Boxes of all tiles in QuPath pixels, in the order of the tiles."""
    order = sorted(seen)
    if not order:
        return Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), tiles=scanned)
    grid = plan.grid
    tile = np.repeat(order, [len(seen[k][1]) for k in order]).astype(np.int64)
    xyxy = np.concatenate([seen[k][0] for k in order]).reshape(-1, 4)
    frame_px = (grid.frame.width_px, grid.frame.height_px)
    limit = np.array(frame_px * 2, float)
    xyxy = xyxy / np.array([grid.scale_x, grid.scale_y] * 2) + np.tile(scanned[tile, :2], 2)
    # As they are stored: what is stitched now and what is stitched from the file must be the same.
    xyxy = np.clip(xyxy, 0, limit).astype(np.float32).astype(np.float64)
    score = np.concatenate([seen[k][1] for k in order]).astype(np.float32).astype(np.float64)
    deviation = None
    if all(len(seen[k]) > 3 and seen[k][3] is not None for k in order):
        deviation = np.concatenate([seen[k][3] for k in order]).astype(np.float32).astype(float)
    outline = None
    if all(len(seen[k]) > 4 and seen[k][4] is not None for k in order):
        outline = np.concatenate([seen[k][4] for k in order])
        scale = np.array([grid.scale_x, grid.scale_y])
        outline = within(moved(outline, scale, scanned[tile, :2]), frame_px)
    boxes = Boxes(
        xyxy,
        score,
        np.concatenate([seen[k][2] for k in order]).astype(np.int64),
        cut_sides(xyxy, scanned[tile], frame_px),
        tile,
        scanned,
        deviation,
        outline,
    )
    # A box wholly in the padding of a tile that is larger than the slide is nothing.
    keep = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    if plan.region is not None and len(xyxy):
        # The tiles reach beyond the region; what lies wholly beyond it was not asked for.
        keep &= shapely.intersects(plan.region, box_polygons(xyxy))
    return boxes.take(keep)
