"""A picture of a slide's tiles: the grid, the tissue, what was chosen and what is labelled."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..slides.reader import RgbArray, Slide
from ..slides.tissue import overview
from .cutting import plan_slide
from .grid import TileSpec
from .jobs import DatasetSettings, SlideJob
from .labels import labelled_objects
from .polygons import polygons_of
from .selection import TileKind

_LONG_SIDE_PX = 1600
_FOOT_PX = 44

Color = tuple[int, int, int]
_TISSUE: Color = (20, 110, 200)
_GRID: Color = (150, 150, 150)
_LABEL: Color = (0, 150, 60)
_HIDDEN: Color = (240, 150, 0)
_KINDS: dict[TileKind, Color] = {
    "object": (0, 150, 60),
    "hard_negative": (200, 30, 160),
    "background": (90, 90, 230),
}
_WORDS: dict[TileKind, str] = {
    "object": "with objects",
    "hard_negative": "hard negative",
    "background": "background",
}


def preview_png(job: SlideJob, spec: TileSpec, settings: DatasetSettings) -> bytes:
    """Draw a slide's tiles.

    Thin grey lines are the whole grid, filled tiles those that were chosen, by why; the blue line
    is the border of the tissue, green shapes are labelled objects, orange is painted out in every
    tile that shows it.

    Returns:
        A PNG, its longer side 1,600 px.

    Raises:
        InputError: the slide cannot be read.
    """
    with Slide(job.slide_path, job.frame) as slide:
        plan = plan_slide(slide, job, spec, settings)
        um_per_px = 1.0 if job.frame.mpp_x is None else job.frame.mpp_x
        long_side = max(job.frame.width_px, job.frame.height_px)
        rgb = _overview(slide, um_per_px * max(1.0, long_side / _LONG_SIDE_PX))
    scale = np.array([rgb.shape[1] / job.frame.width_px, rgb.shape[0] / job.frame.height_px])
    canvas = np.ascontiguousarray(rgb)

    filled = canvas.copy()
    chosen = {tile.labels.tile.index: tile for tile in plan.chosen}
    for tile in plan.grid:
        place = _corners(tile.x_px, tile.y_px, tile.width_px, tile.height_px, scale)
        if tile.index in chosen:
            cv2.rectangle(filled, *place, _KINDS[chosen[tile.index].kind], -1)
    canvas = np.asarray(cv2.addWeighted(filled, 0.12, canvas, 0.88, 0), np.uint8)
    for tile in plan.grid:
        place = _corners(tile.x_px, tile.y_px, tile.width_px, tile.height_px, scale)
        cv2.rectangle(canvas, *place, _GRID, 1)
    for tile_index, tile_chosen in chosen.items():
        tile = plan.grid[tile_index]
        place = _corners(tile.x_px, tile.y_px, tile.width_px, tile.height_px, scale)
        cv2.rectangle(canvas, *place, _KINDS[tile_chosen.kind], 1)
    mask = cv2.resize(
        plan.tissue.mask.astype(np.uint8),
        (canvas.shape[1], canvas.shape[0]),
        interpolation=cv2.INTER_NEAREST,
    )
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, _TISSUE, 2)
    for area in (job.areas.ignored, job.areas.pending):
        _outline(canvas, area, scale, _HIDDEN)
    used = labelled_objects(job.objects, settings.class_map, job.areas, task=settings.task)
    for obj in used:
        _outline(canvas, None if obj.outline is None else obj.outline.geometry, scale, _LABEL)
    counts = {kind: sum(t.kind == kind for t in plan.chosen) for kind in _KINDS}
    text = [
        (
            f"{job.image_name} [{job.entry_id}] {job.part}: {len(plan.grid)} tiles in the grid",
            (0, 0, 0),
        ),
        *((f"{n} {_WORDS[kind]}", _KINDS[kind]) for kind, n in counts.items()),
        (f"{len(used)} objects", _LABEL),
        ("tissue", _TISSUE),
        ("ignored or pending", _HIDDEN),
    ]
    _, data = cv2.imencode(".png", cv2.cvtColor(_with_foot(canvas, text), cv2.COLOR_RGB2BGR))
    return bytes(data.tobytes())


def _overview(slide: Slide, mpp: float) -> RgbArray:
    if slide.frame.mpp_x is None:
        with Slide(slide.path, slide.frame.with_mpp(1.0)) as scaled:
            return overview(scaled, mpp)[0]
    return overview(slide, mpp)[0]


def _corners(
    x: float, y: float, width: float, height: float, scale: NDArray[np.float64]
) -> tuple[tuple[int, int], tuple[int, int]]:
    low = np.round(np.array([x, y]) * scale).astype(int)
    high = np.round(np.array([x + width, y + height]) * scale).astype(int) - 1
    return (int(low[0]), int(low[1])), (int(high[0]), int(high[1]))


def _outline(
    canvas: RgbArray, area: BaseGeometry | None, scale: NDArray[np.float64], color: Color
) -> None:
    for polygon in [] if area is None else polygons_of(area):
        for ring in (polygon.exterior, *polygon.interiors):
            corners = np.round(np.asarray(ring.coords)[:, :2] * scale).astype(np.int32)
            cv2.polylines(canvas, [corners], True, color, 2, cv2.LINE_AA)


def _with_foot(canvas: RgbArray, text: list[tuple[str, Color]]) -> RgbArray:
    font, size, gap = cv2.FONT_HERSHEY_SIMPLEX, 0.55, 22
    widths = [cv2.getTextSize(words, font, size, 1)[0][0] for words, _ in text]
    lines: list[list[int]] = [[]]
    used = gap
    for k, width in enumerate(widths):
        if lines[-1] and used + width + gap > max(canvas.shape[1], 600):
            lines.append([])
            used = gap
        lines[-1].append(k)
        used += width + gap
    width = max(canvas.shape[1], max(widths) + 2 * gap)
    height = canvas.shape[0] + _FOOT_PX * len(lines)
    sheet = np.full((height, width, 3), 255, np.uint8)
    sheet[: canvas.shape[0], : canvas.shape[1]] = canvas
    for row, line in enumerate(lines):
        x, y = gap, canvas.shape[0] + _FOOT_PX * row + 28
        for k in line:
            words, color = text[k]
            # The letters of OpenCV know ASCII only.
            shown = words.encode("ascii", "replace").decode()
            cv2.putText(sheet, shown, (x, y), font, size, color, 1, cv2.LINE_AA)
            x += widths[k] + gap
    return sheet
